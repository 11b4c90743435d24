//! The words after `cargo xtask bench NAME`.

use anyhow::{Context, Result, anyhow, bail, ensure};
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

/// Options in the order in which they were given; whatever is wrong with one is told with the usage behind it.
pub struct Words<'w> {
    rest: std::slice::Iter<'w, &'w str>,
    usage: &'static str,
}

impl<'w> Words<'w> {
    pub fn new(words: &'w [&'w str], usage: &'static str) -> Words<'w> {
        Words { rest: words.iter(), usage }
    }

    /// The next option.
    pub fn option(&mut self) -> Option<&'w str> {
        self.rest.next().copied()
    }

    /// What stands behind an option.
    pub fn value(&mut self, option: &str) -> Result<&'w str> {
        self.rest.next().copied().with_context(|| format!("{option} wants a value\n{}", self.usage))
    }

    /// A file or folder.
    pub fn path(&mut self, option: &str) -> Result<PathBuf> {
        self.value(option).map(PathBuf::from)
    }

    /// A number above zero.
    pub fn number<N: FromStr + Default + PartialOrd>(&mut self, option: &str) -> Result<N> {
        let text = self.value(option)?;
        let number = text.parse().ok().filter(|number| *number > N::default());
        number.with_context(|| format!("{option} wants a number above 0, and `{text}` is none\n{}", self.usage))
    }

    /// Numbers, separated by commas.
    pub fn numbers<N: FromStr>(&mut self, option: &str) -> Result<Vec<N>> {
        let texts = self.value(option)?.split(',');
        texts.map(|text| text.parse().map_err(|_| anyhow!("{option} wants numbers, and `{text}` is none\n{}", self.usage))).collect()
    }

    /// Names out of those that there are, separated by commas.
    pub fn some_of(&mut self, option: &str, known: &[&str]) -> Result<Vec<String>> {
        let names: Vec<String> = self.value(option)?.split(',').map(str::to_owned).collect();
        for name in &names {
            ensure!(known.contains(&name.as_str()), "{option} knows no `{name}`; it knows {}\n{}", known.join(", "), self.usage);
        }
        Ok(names)
    }

    /// Fails because of an option that nobody knows.
    pub fn unknown<T>(&self, option: impl Display) -> Result<T> {
        bail!("`{option}` is not understood\n{}", self.usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T>(result: Result<T>) -> String {
        result.err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_is_told_with_the_option_and_the_usage() {
        let words = |words: &'static [&'static str]| Words::new(words, "usage: it");
        assert_eq!(words(&["3"]).number::<usize>("--rounds").ok(), Some(3));
        for wrong in [["x"], ["0"], ["-1"]] {
            let said = said(Words::new(&wrong, "usage: it").number::<usize>("--rounds"));
            assert_eq!(said, format!("--rounds wants a number above 0, and `{}` is none\nusage: it", wrong[0]));
        }
        assert_eq!(said(words(&[]).value("--cache")), "--cache wants a value\nusage: it");
        assert_eq!(words(&["0,5"]).numbers::<u64>("--rates").ok(), Some(vec![0, 5]));
        assert_eq!(said(words(&["1,b"]).numbers::<u64>("--rates")), "--rates wants numbers, and `b` is none\nusage: it");
        assert_eq!(words(&["b,a"]).some_of("--only", &["a", "b"]).ok(), Some(vec!["b".to_owned(), "a".to_owned()]));
        assert_eq!(said(words(&["a,c"]).some_of("--only", &["a", "b"])), "--only knows no `c`; it knows a, b\nusage: it");
        assert_eq!(said(words(&[]).unknown::<()>("--fast")), "`--fast` is not understood\nusage: it");
    }
}
