// The dialog that asks before a ban is lifted.

import { announce } from "./announce.js";
import { ApiError, remove } from "./api.js";
import { byId, put } from "./dom.js";
import { visible } from "./format.js";

// `done()` is called after the ban was lifted. The function that is returned opens the dialog for a row of the bans.
export function liftDialog(done) {
  const dialog = byId("lift");
  const confirm = byId("lift-confirm");
  let ban;

  const showError = (text) => {
    byId("lift-error").hidden = !text;
    put("lift-error", text);
  };
  byId("lift-cancel").addEventListener("click", () => dialog.close());
  confirm.addEventListener("click", async () => {
    // The reader may close the dialog, and open it for another ban, before the answer comes.
    const asked = ban;
    confirm.disabled = true;
    showError("");
    try {
      await remove(`api/bans/${encodeURIComponent(asked.address)}`);
      if (asked === ban) {
        dialog.close();
        // The button that opened the dialog goes with its row.
        byId("ban-open").focus();
      }
      done();
      announce(`The ban of ${asked.address} is lifted`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (asked === ban) showError(`Not lifted. ${visible(error.message)}`);
    } finally {
      if (asked === ban) {
        confirm.disabled = false;
        if (dialog.open) confirm.focus();
      }
    }
  });

  return (wanted) => {
    ban = wanted;
    confirm.disabled = false;
    put("lift-title", `Lift the ban of ${ban.address}?`);
    put("lift-effect", `${ban.reason ? `The reason was: ${visible(ban.reason)}. ` : ""}It can connect again at once.`);
    showError("");
    dialog.showModal();
  };
}
