//! Assessments: what a person, a program or a judging model says about a trace.
//!
//! Promise: what kind of thing was said (feedback, expectation, issue) and who said it never change; a correction may override an
//! assessment, which then stays, marked as no longer valid.

use super::trace::TraceId;
use crate::{Code, Digest, Fault, Result, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;

/// Who assessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SourceKind {
    /// Nobody said.
    #[default]
    Unspecified,
    /// A person.
    Human,
    /// A model that judges.
    LlmJudge,
    /// A program.
    Code,
}

impl SourceKind {
    /// Every kind.
    pub const ALL: [SourceKind; 4] = [SourceKind::Unspecified, SourceKind::Human, SourceKind::LlmJudge, SourceKind::Code];
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceKind::Unspecified => "SOURCE_TYPE_UNSPECIFIED",
            SourceKind::Human => "HUMAN",
            SourceKind::LlmJudge => "LLM_JUDGE",
            SourceKind::Code => "CODE",
        }
    }
    /// The kind that a word means.
    pub fn of_word(word: &str) -> Option<SourceKind> {
        SourceKind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Why a judge could not say anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AssessmentError {
    /// A short word.
    pub code: Option<String>,
    /// A sentence.
    pub message: Option<String>,
    /// Where it happened.
    pub stack: Option<String>,
}

/// What was said.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// How good it was: any JSON value, null if there is an error instead.
    Feedback(Value, Option<AssessmentError>),
    /// What should have come out.
    Expectation(Value),
    /// It shows this known issue.
    Issue(String),
}

impl Said {
    /// The stored word of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Said::Feedback(..) => "feedback",
            Said::Expectation(_) => "expectation",
            Said::Issue(_) => "issue",
        }
    }
}

/// One assessment.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// `a-` and 32 hex digits.
    pub id: String,
    /// The trace.
    pub trace: TraceId,
    /// What is assessed: `correctness`. For issues, the issue's id.
    pub name: String,
    /// What was said.
    pub said: Said,
    /// Who said it.
    pub source: SourceKind,
    /// Their name.
    pub source_id: Option<String>,
    /// The span it is about, if not the whole trace.
    pub span: Option<String>,
    /// Why.
    pub rationale: Option<String>,
    /// More about it.
    pub metadata: BTreeMap<String, String>,
    /// The assessment that it corrects.
    pub overrides: Option<String>,
    /// Whether it stands: nothing overrides it.
    pub valid: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// What changes about an assessment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AssessmentUpdate {
    /// Another name.
    pub name: Option<String>,
    /// Another value, of the same kind.
    pub said: Option<Said>,
    /// Another reason.
    pub rationale: Option<String>,
    /// Metadata to add.
    pub metadata: BTreeMap<String, String>,
}

impl Assessment {
    /// An id made from what is said, by whom and when: whoever sends the same assessment again gets the same one.
    pub fn content_id(&self) -> String {
        let (value, error) = match &self.said {
            Said::Feedback(value, error) => (value.to_string(), format!("{error:?}")),
            Said::Expectation(value) => (value.to_string(), String::new()),
            Said::Issue(name) => (name.clone(), String::new()),
        };
        let metadata = format!("{:?}", self.metadata);
        let digest = Digest::of_parts(
            [
                self.trace.as_str(),
                &self.name,
                self.said.kind(),
                &value,
                &error,
                self.source.as_str(),
                self.source_id.as_deref().unwrap_or_default(),
                self.span.as_deref().unwrap_or_default(),
                self.rationale.as_deref().unwrap_or_default(),
                self.overrides.as_deref().unwrap_or_default(),
                &metadata,
                &self.created_at.micros().to_string(),
            ]
            .map(str::as_bytes),
        );
        format!("a-{}", &digest.hex()[..32])
    }

    /// The assessment after a change.
    pub fn updated(mut self, update: AssessmentUpdate, now: Timestamp) -> Result<Assessment> {
        if let Some(said) = update.said {
            let told = |kind: &str| match kind {
                "feedback" => "a Feedback",
                "expectation" => "an Expectation",
                _ => "an Issue",
            };
            if said.kind() != self.said.kind() {
                let message = format!("Cannot update {} value on {} assessment.", said.kind(), told(self.said.kind()));
                return Err(Fault::invalid(Code::BAD_VALUE, message).fix("make a new assessment of that kind"));
            }
            self.said = said;
        }
        self.name = update.name.unwrap_or(self.name);
        self.rationale = update.rationale.or(self.rationale);
        self.metadata.extend(update.metadata);
        self.updated_at = now;
        Ok(self)
    }

    /// The value as a number: booleans are not one.
    pub fn number(&self) -> Option<f64> {
        match &self.said {
            Said::Feedback(value, _) | Said::Expectation(value) => value.as_f64().filter(|n| n.is_finite()),
            Said::Issue(_) => None,
        }
    }

    /// The value as people compare it: a text is itself, anything else its JSON.
    pub fn text(&self) -> String {
        match &self.said {
            Said::Feedback(Value::String(text), _) | Said::Expectation(Value::String(text)) | Said::Issue(text) => text.clone(),
            Said::Feedback(value, _) | Said::Expectation(value) => value.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feedback(value: Value) -> Assessment {
        Assessment {
            id: String::new(),
            trace: TraceId::new("tr-1").expect("an id"),
            name: "quality".into(),
            said: Said::Feedback(value, None),
            source: SourceKind::Human,
            source_id: Some("ada".into()),
            span: None,
            rationale: None,
            metadata: [("a".into(), "1".into())].into(),
            overrides: None,
            valid: true,
            created_at: Timestamp::from_micros(5),
            updated_at: Timestamp::from_micros(5),
        }
    }

    #[test]
    fn the_same_said_again_has_the_same_id() {
        let one = feedback(true.into());
        assert_eq!(one.content_id(), one.clone().content_id());
        assert_eq!(one.content_id().len(), 34);
        let other = Assessment { created_at: Timestamp::from_micros(6), ..one.clone() };
        assert_ne!(one.content_id(), other.content_id());
        assert_ne!(one.content_id(), feedback(false.into()).content_id());
    }

    #[test]
    fn a_kind_never_changes() {
        let later = Timestamp::from_micros(9);
        let update = AssessmentUpdate { said: Some(Said::Expectation(1.into())), ..AssessmentUpdate::default() };
        let fault = feedback(true.into()).updated(update, later).expect_err("another kind");
        assert_eq!(fault.message, "Cannot update expectation value on a Feedback assessment.");
        let update = AssessmentUpdate {
            said: Some(Said::Feedback("no".into(), None)),
            metadata: [("b".into(), "2".into())].into(),
            ..AssessmentUpdate::default()
        };
        let changed = feedback(true.into()).updated(update, later).expect("the same kind");
        assert_eq!((changed.text().as_str(), changed.metadata.len(), changed.updated_at), ("no", 2, later));
    }

    #[test]
    fn values_compare_as_people_write_them() {
        for (value, text, number) in
            [(Value::from("yes"), "yes", None), (true.into(), "true", None), (0.5.into(), "0.5", Some(0.5)), (Value::Null, "null", None)]
        {
            let one = feedback(value);
            assert_eq!((one.text().as_str(), one.number()), (text, number));
        }
    }
}
