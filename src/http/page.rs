//! The page for people: four files that are part of the program, with no build step and no request to
//! anybody else.

/// The document.
pub const HTML: &str = include_str!("page/index.html");
/// How it looks.
pub const CSS: &str = include_str!("page/page.css");
/// What it does.
pub const JS: &str = include_str!("page/page.js");
/// Its icon.
pub const ICON: &str = include_str!("page/favicon.svg");

/// Only these files, and questions to this very server. No form is sent, no frame may hold the page.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_fetched_from_elsewhere_or_against_the_policy() {
        for file in [HTML, CSS, JS, ICON] {
            let elsewhere = file
                .replace("http://www.w3.org/2000/svg", "")
                .contains("://");
            assert!(!elsewhere, "an address of another site");
        }
        for wrong in [" style=", "<style", "onclick=", "<script>", "javascript:"] {
            assert!(!HTML.contains(wrong), "{wrong}");
        }
        for wrong in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(
                !JS.contains(wrong),
                "{wrong}: names of users and tags are not ours"
            );
        }
    }
}
