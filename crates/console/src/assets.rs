//! The page: files of this crate, as they are.

use axum::Router;
use axum::http::header;
use axum::routing::get;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// By path: kind and text.
const FILES: [(&str, &str, &str); 14] = [
    ("/", HTML, include_str!("../page/index.html")),
    ("/page/theme.css", CSS, include_str!("../page/theme.css")),
    ("/page/layout.css", CSS, include_str!("../page/layout.css")),
    ("/page/icon.svg", SVG, include_str!("../page/icon.svg")),
    ("/page/main.js", JS, include_str!("../page/main.js")),
    ("/page/api.js", JS, include_str!("../page/api.js")),
    ("/page/dom.js", JS, include_str!("../page/dom.js")),
    ("/page/format.js", JS, include_str!("../page/format.js")),
    ("/page/history.js", JS, include_str!("../page/history.js")),
    ("/page/topology.js", JS, include_str!("../page/topology.js")),
    ("/page/chart.js", JS, include_str!("../page/chart.js")),
    ("/page/components.js", JS, include_str!("../page/components.js")),
    ("/page/batches.js", JS, include_str!("../page/batches.js")),
    ("/page/logs.js", JS, include_str!("../page/logs.js")),
];

/// Routes to all of them.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(|| async { ([(header::CONTENT_TYPE, *kind)], *text) }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_its_own_files_and_nothing_from_elsewhere() {
        for (path, _, text) in FILES {
            for (line, text) in text.lines().enumerate() {
                let elsewhere = text.contains("://") && !text.contains("http://www.w3.org/");
                assert!(!elsewhere, "{path}:{}: {text}", line + 1);
                let inline = [" style=\"", "onclick=", "innerHTML", "<script>", "<style>", "eval("];
                let found = inline.iter().find(|word| text.contains(**word));
                assert_eq!(found, None, "{path}:{}: {text}", line + 1);
                let names = text
                    .split(['"', '\''])
                    .filter(|part| part.ends_with(".js") || part.ends_with(".css"));
                for name in names {
                    let name = name.replace("./", "/page/");
                    assert!(FILES.iter().any(|(path, ..)| *path == name), "{path}: {name}");
                }
            }
        }
    }
}
