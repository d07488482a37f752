//! The files of static/, embedded in the binary.

/// The type of a page.
pub const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The page for the bots' owners.
pub const STATUS: &str = include_str!("../../static/status.html");

/// The type and the text of the page or asset at `path`, if there is one.
pub fn page(path: &str) -> Option<(&'static str, &'static str)> {
    if let Some(name) = path.strip_prefix("/js/") {
        return module(name).map(|text| (JAVASCRIPT, text));
    }
    Some(match path {
        "/" => (HTML, include_str!("../../static/index.html")),
        "/health" => (HTML, include_str!("../../static/health.html")),
        "/data-usage" => (HTML, include_str!("../../static/data-usage.html")),
        "/security" => (HTML, include_str!("../../static/security.html")),
        // Its texts and bars are filled in by `status`.
        "/status" => (HTML, STATUS),
        "/lavaproxy.css" => (CSS, include_str!("../../static/lavaproxy.css")),
        "/icon.svg" => (SVG, include_str!("../../static/icon.svg")),
        _ => return None,
    })
}

/// The text of a script's module.
fn module(name: &str) -> Option<&'static str> {
    Some(match name {
        "account-cell.js" => include_str!("../../static/js/account-cell.js"),
        "accounts.js" => include_str!("../../static/js/accounts.js"),
        "announce.js" => include_str!("../../static/js/announce.js"),
        "api.js" => include_str!("../../static/js/api.js"),
        "ban-dialog.js" => include_str!("../../static/js/ban-dialog.js"),
        "bans.js" => include_str!("../../static/js/bans.js"),
        "bot-cell.js" => include_str!("../../static/js/bot-cell.js"),
        "bot-settings.js" => include_str!("../../static/js/bot-settings.js"),
        "chart.js" => include_str!("../../static/js/chart.js"),
        "choice.js" => include_str!("../../static/js/choice.js"),
        "clipboard.js" => include_str!("../../static/js/clipboard.js"),
        "columns.js" => include_str!("../../static/js/columns.js"),
        "connect-dialog.js" => include_str!("../../static/js/connect-dialog.js"),
        "connections.js" => include_str!("../../static/js/connections.js"),
        "csv.js" => include_str!("../../static/js/csv.js"),
        "data-usage.js" => include_str!("../../static/js/data-usage.js"),
        "dom.js" => include_str!("../../static/js/dom.js"),
        "drain-dialog.js" => include_str!("../../static/js/drain-dialog.js"),
        "end-reasons.js" => include_str!("../../static/js/end-reasons.js"),
        "feed.js" => include_str!("../../static/js/feed.js"),
        "format.js" => include_str!("../../static/js/format.js"),
        "header.js" => include_str!("../../static/js/header.js"),
        "health.js" => include_str!("../../static/js/health.js"),
        "history.js" => include_str!("../../static/js/history.js"),
        "lift-dialog.js" => include_str!("../../static/js/lift-dialog.js"),
        "limits.js" => include_str!("../../static/js/limits.js"),
        "minute-bars.js" => include_str!("../../static/js/minute-bars.js"),
        "node-card.js" => include_str!("../../static/js/node-card.js"),
        "node-state.js" => include_str!("../../static/js/node-state.js"),
        "page.js" => include_str!("../../static/js/page.js"),
        "panel.js" => include_str!("../../static/js/panel.js"),
        "preferences.js" => include_str!("../../static/js/preferences.js"),
        "refusals.js" => include_str!("../../static/js/refusals.js"),
        "security.js" => include_str!("../../static/js/security.js"),
        "select.js" => include_str!("../../static/js/select.js"),
        "sparkline.js" => include_str!("../../static/js/sparkline.js"),
        "table.js" => include_str!("../../static/js/table.js"),
        "theme.js" => include_str!("../../static/js/theme.js"),
        "traffic.js" => include_str!("../../static/js/traffic.js"),
        "usage-views.js" => include_str!("../../static/js/usage-views.js"),
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn files(folder: &str) -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
    }

    fn name(file: &Path) -> &str {
        file.file_name().unwrap().to_str().unwrap()
    }

    /// The modules that the text of a module imports.
    fn imports(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter_map(|line| line.strip_prefix("import ")?.split("\"./").nth(1)?.strip_suffix("\";"))
    }

    #[test]
    fn every_file_is_served() {
        for file in files("static") {
            let path = match name(&file) {
                "index.html" => "/".to_owned(),
                name => format!("/{}", name.strip_suffix(".html").unwrap_or(name)),
            };
            assert_eq!(page(&path).unwrap().1, fs::read_to_string(&file).unwrap(), "{path}");
        }
        for file in files("static/js") {
            let (kind, text) = page(&format!("/js/{}", name(&file))).unwrap();
            assert_eq!((kind, text), (JAVASCRIPT, fs::read_to_string(&file).unwrap().as_str()));
        }
        assert!(page("/js/").is_none() && page("/js/none.js").is_none());
    }

    #[test]
    fn all_files_together_are_small() {
        let sizes = ["static", "static/js"].into_iter().flat_map(files).map(|file| fs::metadata(file).unwrap().len());
        let all: u64 = sizes.sum();
        assert!(all < 150 * 1024, "{all} bytes");
    }

    #[test]
    fn every_page_loads_its_module_and_every_import_is_served() {
        for path in ["/", "/health", "/data-usage", "/security"] {
            let (_, html) = page(path).unwrap();
            let script = html.split("<script type=\"module\" src=\"").nth(1).unwrap().split('"').next().unwrap();
            assert!(page(&format!("/{script}")).is_some(), "{script}");
        }
        for file in files("static/js") {
            let text = module(name(&file)).unwrap();
            assert_eq!(imports(text).count(), text.matches("import ").count(), "{file:?}");
            for import in imports(text) {
                assert!(module(import).is_some(), "{file:?} imports {import}");
            }
        }
    }

    #[test]
    fn no_modules_import_each_other_in_a_circle() {
        // Modules that import only modules taken before are taken, until none is left.
        let mut left: Vec<_> = files("static/js");
        let mut taken: Vec<String> = Vec::new();
        while !left.is_empty() {
            let (free, bound): (Vec<_>, Vec<_>) = left.into_iter().partition(|file| {
                imports(module(name(file)).unwrap()).all(|import| taken.iter().any(|name| name == import))
            });
            assert!(!free.is_empty(), "there is a circle among {bound:?}");
            taken.extend(free.iter().map(|file| name(file).to_owned()));
            left = bound;
        }
    }
}
