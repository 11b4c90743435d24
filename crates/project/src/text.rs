//! Texts and places in them: every error about the project points at a file, a line and a column.
//!
//! Invariant: a [`Spot`] made here is inside its text; a span over several lines is cut at the end of its first.

use gristmill_kernel::error::Spot;
use std::ops::Range;

/// A file of the project as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// The file, relative to the project.
    pub file: String,
    /// Its content.
    pub text: String,
}

impl Text {
    /// A named text.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Text {
        Text { file: file.into(), text: text.into() }
    }
    /// The place of a span of bytes.
    pub fn spot(&self, span: Range<usize>) -> Spot {
        let start = floor(&self.text, span.start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |i| start + i);
        let end = floor(&self.text, span.end).clamp(start, line_end);
        Spot {
            file: self.file.clone(),
            line: self.text[..start].matches('\n').count() + 1,
            column: self.text[line_start..start].chars().count() + 1,
            width: self.text[start..end].chars().count().max(1),
            text: crate::secrets::covered(self.text[line_start..line_end].trim_end_matches('\r')),
        }
    }
    /// The line of a byte, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.text[..floor(&self.text, at)].matches('\n').count() + 1
    }
    /// The place of the first whole word `word` behind `from`, in plain SQL or TOML: comments count too, which only
    /// moves a caret, never a decision.
    pub fn word(&self, word: &str, from: usize) -> Option<Range<usize>> {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        let mut at = floor(&self.text, from);
        while let Some(found) = self.text[at..].find(word).filter(|_| !word.is_empty()) {
            let span = at + found..at + found + word.len();
            let before = self.text[..span.start].chars().next_back().is_some_and(part);
            let behind = self.text[span.end..].chars().next().is_some_and(part);
            if !before && !behind {
                return Some(span);
            }
            at = span.end;
        }
        None
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The nearest of `choices` if it is near enough to have been meant.
pub fn nearest<'a>(word: &str, choices: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    let word = word.to_lowercase();
    choices
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&word, c), c))
        .filter(|(distance, choice)| *distance <= limit || (word.len() >= 3 && choice.starts_with(&word)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// The fix of a name that does not exist: what was probably meant, or what there is.
pub fn did_you_mean<'a>(word: &str, what: &str, choices: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(word, choices.clone()) {
        return format!("did you mean `{near}`?");
    }
    let all: Vec<&str> = choices.into_iter().collect();
    if all.is_empty() { format!("there are no {what} yet") } else { format!("{what} are {}", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spots_count_characters_and_stay_on_their_line() {
        let text = Text::new("f", "é = 1\nabc = \"x\ny\"\n");
        let spot = text.spot(0..2);
        assert_eq!((spot.line, spot.column, spot.width, spot.text.as_str()), (1, 1, 1, "é = 1"));
        let spot = text.spot(13..18);
        assert_eq!((spot.line, spot.column, spot.width), (2, 7, 2));
        assert_eq!(text.spot(900..901).line, 4);
    }

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("labls", ["labels", "features"]), Some("labels"));
        assert_eq!(nearest("zzz", ["labels", "features"]), None);
        assert_eq!(did_you_mean("x", "keys", ["from", "time"]), "keys are from, time");
    }

    #[test]
    fn words_are_whole() {
        let text = Text::new("f", "from myevents join events");
        assert_eq!(text.word("events", 0), Some(19..25));
        assert_eq!(text.word("event", 0), None);
    }
}
