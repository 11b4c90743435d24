//! The page of every error code, as `gristmill explain E0207` prints it. The pages are Markdown files in `crates/gristmill/codes/`,
//! titled `# E0207: ...`; a test demands one per code.

macro_rules! pages {
    ($($code:literal)*) => {
        /// The page of a code.
        pub fn page(code: &str) -> Option<&'static str> {
            match code {
                $($code => Some(include_str!(concat!("../../gristmill/codes/", $code, ".md"))),)*
                _ => None,
            }
        }
    };
}

pages! {
    "E0101" "E0102" "E0103" "E0104" "E0105" "E0106" "E0107" "E0108" "E0109" "E0110"
    "E0201" "E0202" "E0203" "E0204" "E0205" "E0206" "E0207" "E0208" "E0209"
    "E0301" "E0302" "E0303" "E0304" "E0305" "E0306"
    "E0401" "E0402" "E0403" "E0404" "E0405" "E0406" "E0407" "E0408" "E0409" "E0410" "E0411" "E0412" "E0413" "E0414" "E0415" "E0416" "E0417" "E0418" "E0419" "E0420"
    "E0501" "E0502" "E0503" "E0504" "E0505" "E0506" "E0507" "E0508" "E0509" "E0510" "E0511" "E0512"
    "E0601" "E0602" "E0603" "E0604" "E0605" "E0606" "E0607"
    "E0701" "E0702" "E0703" "E0704" "E0705"
    "E0999"
}

/// A code as a user may type it: `e0207`, `207`.
pub fn find(typed: &str) -> Option<&'static str> {
    let digits = typed.trim().trim_start_matches(['e', 'E']);
    page(&format!("E{digits:0>4}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::error::ALL_CODES;

    #[test]
    fn every_code_has_a_page_that_says_what_to_do() {
        for code in ALL_CODES {
            let page = page(code.0).unwrap_or_else(|| panic!("{code} has no page"));
            assert!(page.starts_with(&format!("# {code}: ")), "{code}: the title");
            for part in ["\n## What happened\n", "\n## What to check\n", "\n## How to fix it\n", "\n```text\n"] {
                assert!(page.contains(part), "{code} lacks {part:?}");
            }
            let lines = page.lines().count();
            assert!((8..=40).contains(&lines), "{code} has {lines} lines");
        }
        assert_eq!(find("207"), page("E0207"));
        assert_eq!(find("e0207"), page("E0207"));
        assert_eq!(find("E9998"), None);
    }
}
