//! Verdicts: what a stage, a gate or a monitor concluded. No data is inconclusive, never success.

/// What was concluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every check passed.
    Pass,
    /// Something is worth a look, nothing stops.
    Warn,
    /// There was not enough to judge.
    Inconclusive,
    /// At least one check failed.
    Fail,
}

impl Verdict {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Fail => "fail",
        }
    }
    /// The worst of several; nothing to judge is inconclusive.
    pub fn worst(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
        verdicts.into_iter().max().unwrap_or(Verdict::Inconclusive)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One condition and what came of it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Check {
    /// The condition as the user wrote it.
    pub condition: String,
    /// What came of it.
    pub verdict: Verdict,
    /// The figures that decided, for people: `auc = 0.773`.
    pub observed: String,
}

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn nothing_is_not_success() {
        assert_eq!(Verdict::worst([]), Verdict::Inconclusive);
        assert_eq!(Verdict::worst([Verdict::Pass, Verdict::Inconclusive]), Verdict::Inconclusive);
        assert_eq!(Verdict::worst([Verdict::Fail, Verdict::Pass]), Verdict::Fail);
    }
}
