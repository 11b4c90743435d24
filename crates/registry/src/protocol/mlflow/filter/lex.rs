//! Words of a filter: names, values, operators. Knows nothing of what they mean.

use super::bad;
use gristmill_kernel::Result;

/// A word with the text it was.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    /// What it is.
    pub is: Word,
    /// How it was written.
    pub raw: String,
}

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Word {
    /// `status`, `metrics.auc`, ``tags.`mlflow.runName` ``: what stands before the first dot, and the rest without quotes.
    Name(Option<String>, String),
    /// `"..."` alone: a name or a text, by its place.
    Quoted(String),
    /// `'...'`
    Text(String),
    /// A number.
    Number(f64),
    /// A run of `< > = ! ~`.
    Operator(String),
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
}

impl Token {
    /// Whether it is this keyword, in any case.
    pub(crate) fn is_keyword(&self, keyword: &str) -> bool {
        matches!(&self.is, Word::Name(None, name) if self.raw == *name && name.eq_ignore_ascii_case(keyword))
    }
}

/// Cuts a text into words.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut cursor = Cursor { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        cursor.skip(char::is_whitespace);
        let start = cursor.at;
        let Some(first) = cursor.peek() else { return Ok(tokens) };
        let is = cursor.word(first)?;
        tokens.push(Token { is, raw: text[start..cursor.at].to_owned() });
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }
    fn peek_second(&self) -> Option<char> {
        self.text[self.at..].chars().nth(1)
    }
    fn step(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }
    fn skip(&mut self, wanted: impl Fn(char) -> bool) -> &str {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.step();
        }
        &self.text[start..self.at]
    }

    fn word(&mut self, first: char) -> Result<Word> {
        let begins_number = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit() || c == '.');
        Ok(match first {
            '(' => self.one(Word::Open),
            ')' => self.one(Word::Close),
            ',' => self.one(Word::Comma),
            '<' | '>' | '=' | '!' | '~' => Word::Operator(self.skip(|c| "<>=!~".contains(c)).to_owned()),
            '\'' => Word::Text(self.quoted('\'')?),
            '0'..='9' => self.number()?,
            '-' | '+' | '.' if begins_number(self.peek_second()) => self.number()?,
            '"' | '`' => self.quoted_name(first)?,
            c if c.is_alphabetic() || c == '_' => self.name()?,
            ';' => {
                return Err(bad(format!(
                    "Search filter contained multiple expression {}. Provide AND-ed expression list.",
                    super::python_quoted(self.text)
                )));
            }
            c => return Err(super::invalid_clause(&c.to_string())),
        })
    }

    fn one(&mut self, word: Word) -> Word {
        self.step();
        word
    }

    /// A text in quotes; a doubled quote is one.
    fn quoted(&mut self, quote: char) -> Result<String> {
        let start = self.at;
        self.step();
        let mut inner = String::new();
        loop {
            match self.peek() {
                None => return Err(super::invalid_clause(&self.text[start..])),
                Some(c) if c == quote && self.peek_second() == Some(quote) => {
                    inner.push(quote);
                    self.step();
                    self.step();
                }
                Some(c) if c == quote => {
                    self.step();
                    return Ok(inner);
                }
                Some(c) => {
                    inner.push(c);
                    self.step();
                }
            }
        }
    }

    fn quoted_name(&mut self, quote: char) -> Result<Word> {
        let first = self.quoted(quote)?;
        if self.peek() == Some('.') {
            self.step();
            return Ok(Word::Name(Some(first), self.key()?));
        }
        Ok(if quote == '"' { Word::Quoted(first) } else { Word::Name(None, first) })
    }

    fn name(&mut self) -> Result<Word> {
        let first = self.skip(|c| c.is_alphanumeric() || c == '_').to_owned();
        if self.peek() == Some('.') {
            self.step();
            return Ok(Word::Name(Some(first), self.key()?));
        }
        Ok(Word::Name(None, first))
    }

    /// What follows the dot: in quotes, or everything that a plain name may hold.
    fn key(&mut self) -> Result<String> {
        match self.peek() {
            Some(quote @ ('"' | '`' | '\'')) => self.quoted(quote),
            // Not every server takes `-`, `/` and `:` without quotes; nothing else can be meant by them here.
            _ => Ok(self.skip(|c| c.is_alphanumeric() || "_.-/:@$".contains(c)).to_owned()),
        }
    }

    fn number(&mut self) -> Result<Word> {
        let start = self.at;
        if matches!(self.peek(), Some('-' | '+')) {
            self.step();
        }
        self.skip(|c| c.is_ascii_digit() || c == '.');
        if matches!(self.peek(), Some('e' | 'E')) {
            let before = self.at;
            self.step();
            if matches!(self.peek(), Some('-' | '+')) {
                self.step();
            }
            if self.skip(|c| c.is_ascii_digit()).is_empty() {
                self.at = before;
            }
        }
        let raw = &self.text[start..self.at];
        raw.parse().map(Word::Number).map_err(|_| super::invalid_clause(raw))
    }
}
