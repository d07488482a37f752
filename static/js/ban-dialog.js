// The dialog with the form that bans an address or a network.

import { announce } from "./announce.js";
import { ApiError, post } from "./api.js";
import { byId, put } from "./dom.js";
import { visible } from "./format.js";

// As the settings write durations; without one a ban has no end.
const DURATIONS = [["10m", "10 minutes"], ["1h", "1 hour"], ["24h", "24 hours"], ["168h", "7 days"], ["720h", "30 days"], ["", "until it is lifted"]];
const FIRST = "24h";

// `done()` is called after a ban. The function that is returned opens the dialog, for an address if there is one.
export function banDialog(done) {
  const dialog = byId("ban");
  const confirm = byId("ban-confirm");
  const [address, reason, duration] = ["address", "reason", "duration"].map((name) => byId(`ban-${name}`));
  let opened = 0;
  duration.append(...DURATIONS.map(([value, label]) => new Option(label, value)));

  const showError = (text) => {
    byId("ban-error").hidden = !text;
    put("ban-error", text);
    address.setAttribute("aria-invalid", String(Boolean(text)));
  };
  byId("ban-cancel").addEventListener("click", () => dialog.close());
  byId("ban-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (confirm.disabled) return;
    // The reader may close the dialog, and open it again, before the answer comes.
    const asked = opened;
    const wanted = { address: address.value.trim(), reason: reason.value.trim(), ...(duration.value && { duration: duration.value }) };
    confirm.disabled = true;
    showError("");
    try {
      const row = await post("api/bans", wanted);
      if (asked === opened) dialog.close();
      done();
      announce(`${row.address} is banned`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (asked !== opened) return;
      showError(`Not banned. ${visible(error.message)}`);
      address.focus();
    } finally {
      if (asked === opened) confirm.disabled = false;
    }
  });

  return (wanted = "") => {
    opened++;
    confirm.disabled = false;
    address.value = wanted;
    reason.value = "";
    duration.value = FIRST;
    showError("");
    dialog.showModal();
    (wanted ? reason : address).focus();
  };
}
