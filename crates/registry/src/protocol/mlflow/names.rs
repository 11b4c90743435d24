//! Names for runs and logged models that their makers did not name: two words and a number.

use gristmill_kernel::port::Ids;

const KINDS: [&str; 64] = [
    "amber", "ample", "brisk", "broad", "calm", "clear", "coarse", "cosy", "crisp", "dapper", "deft", "dusty", "eager", "early", "even",
    "fair", "fine", "firm", "fleet", "fond", "fresh", "gentle", "glad", "golden", "grand", "hale", "hardy", "hearty", "humble", "jolly",
    "keen", "kind", "lively", "loyal", "lucid", "merry", "mild", "modest", "neat", "nimble", "noble", "patient", "plain", "proud", "quick",
    "quiet", "ready", "ripe", "robust", "serene", "sharp", "sleek", "snug", "sober", "sound", "spry", "steady", "stout", "sunny", "swift",
    "tidy", "vivid", "warm", "wry",
];

const THINGS: [&str; 64] = [
    "acorn", "anvil", "apron", "ash", "barley", "barn", "basin", "beam", "birch", "bran", "bread", "brook", "bushel", "chaff", "cog",
    "corn", "crane", "creek", "crust", "dam", "dough", "elm", "ember", "fern", "field", "finch", "flour", "flume", "gear", "grain",
    "grist", "groat", "hare", "hopper", "husk", "kernel", "kiln", "ladder", "lark", "larch", "linden", "lock", "loaf", "maize", "meadow",
    "mill", "miller", "oat", "oven", "owl", "paddle", "pond", "quern", "race", "rye", "sack", "sail", "sieve", "sluice", "spelt", "stone",
    "thresher", "wheat", "wheel",
];

/// A new name, such as `steady-quern-417`.
pub(crate) fn invent(ids: &dyn Ids) -> String {
    let mut bytes = [0; 4];
    ids.random(&mut bytes);
    let kind = KINDS[usize::from(bytes[0]) % KINDS.len()];
    let thing = THINGS[usize::from(bytes[1]) % THINGS.len()];
    let number = u16::from_be_bytes([bytes[2], bytes[3]]) % 1_000;
    format!("{kind}-{thing}-{number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_word_is_there_once() {
        for words in [KINDS, THINGS] {
            assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
            assert!(words.iter().all(|w| w.chars().all(|c| c.is_ascii_lowercase())));
        }
    }
}
