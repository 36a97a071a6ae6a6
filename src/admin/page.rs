//! What `/` shows: one page that fetches `/status` and `/decisions` again and again. Its files are joined here, so that
//! a browser loads nothing else.
//!
//! The names in it come from whoever sends queries. The script sets text and never markup, and the Content-Security-Policy
//! lets no other script or style run than these, by their hashes, nor anything be fetched from elsewhere.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode, header};

use super::server::answer;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str =
    concat!(include_str!("page/elements.js"), include_str!("page/sections.js"), include_str!("page/live.js"));

static PAGE: LazyLock<Page> = LazyLock::new(Page::join);

struct Page {
    html: Bytes,
    /// The Content-Security-Policy; `None` never comes, since it is made of ASCII.
    policy: Option<header::HeaderValue>,
}

impl Page {
    fn join() -> Self {
        let html = include_str!("page/page.html").replacen("{style}", STYLE, 1).replacen("{script}", SCRIPT, 1);
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
            hash(STYLE),
            hash(SCRIPT)
        );
        Self { html: html.into(), policy: header::HeaderValue::from_str(&policy).ok() }
    }
}

/// As Content-Security-Policy names an inline script or style (CSP level 3 section 2.3.1).
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

/// The page with its policy.
pub(super) fn response() -> Response<Full<Bytes>> {
    let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", PAGE.html.clone());
    let headers = response.headers_mut();
    headers.extend(PAGE.policy.clone().map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
    headers.insert(header::REFERRER_POLICY, header::HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html() -> &'static str {
        str::from_utf8(&PAGE.html).unwrap()
    }

    /// What stands between the only two tags of a kind.
    fn only(tag: &str) -> &'static str {
        let (before, rest) = html().split_once(&format!("<{tag}>")).unwrap();
        let (inside, after) = rest.split_once(&format!("</{tag}>")).unwrap();
        assert!(!before.contains(&format!("<{tag}")) && !after.contains(&format!("<{tag}")), "one {tag} only");
        inside
    }

    #[test]
    fn the_policy_lets_the_script_and_the_style_of_the_page_run_and_nothing_else() {
        let response = response();
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        for (directive, tag) in [("script-src", "script"), ("style-src", "style")] {
            let sources = policy.split("; ").find_map(|part| part.strip_prefix(directive)).unwrap();
            assert_eq!(sources, format!(" '{}'", hash(only(tag))), "{directive}");
        }
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(
            hash("alert('Hello, world.');"),
            "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=",
            "as in the standard"
        );
    }

    #[test]
    fn the_page_refers_to_nothing_beyond_itself() {
        // Namespaces are names, and nothing is fetched from them.
        let html = html().replace("http://www.w3.org/2000/svg", "");
        let fetching =
            ["http:", "https:", "src=", "@import", "url(", "import(", "rel=\"stylesheet", "<iframe", "<object"];
        for sign in fetching {
            assert!(!html.contains(sign), "{sign}");
        }
        let links: Vec<&str> = html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(links.iter().all(|link| link.starts_with('#') || link.starts_with("data:")), "{links:?}");
    }

    #[test]
    fn what_strangers_chose_is_set_as_text_only() {
        for sign in ["HTML", "document.write", "eval(", "Function(", "srcdoc", "DOMParser", "createContextualFragment"]
        {
            assert!(!SCRIPT.contains(sign), "{sign}");
        }
    }
}
