//! The part of YAML that MLflow's client writes into `MLmodel` files: tables and lists by indentation, plain and quoted texts that may run over
//! several lines. A small strict reader, because a whole YAML is much for one file and its surprises are many.
//!
//! Not read, and refused by name: tags, flow tables and lists with anything in them, several documents, keys over several lines.
//! Every scalar is text, an alias (`*id001`) too: who asks decides what it means.

use std::collections::BTreeMap;

/// Deepest nesting.
const DEPTH_MAX: usize = 32;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Yaml {
    /// Nothing, `null` or `~`.
    Null,
    /// A scalar.
    Text(String),
    List(Vec<Yaml>),
    Table(BTreeMap<String, Yaml>),
}

impl Yaml {
    /// Reads a document. `Err` says what is wrong, and in which line.
    pub fn read(text: &str) -> Result<Yaml, String> {
        let mut reader = Reader { lines: text.lines().map(str::to_owned).collect(), at: 0 };
        if reader.lines.first().is_some_and(|line| line.trim_end() == "---") {
            reader.at = 1;
        }
        let value = reader.document();
        value.map_err(|why| format!("line {}: {why}", reader.at.min(reader.lines.len().saturating_sub(1)) + 1))
    }
    /// What stands under a key of a table.
    pub fn get(&self, key: &str) -> Option<&Yaml> {
        match self {
            Yaml::Table(entries) => entries.get(key),
            _ => None,
        }
    }
    /// A scalar.
    pub fn text(&self) -> Option<&str> {
        match self {
            Yaml::Text(text) => Some(text),
            _ => None,
        }
    }
}

struct Reader {
    lines: Vec<String>,
    at: usize,
}

impl Reader {
    fn document(&mut self) -> Result<Yaml, String> {
        let value = match self.indent()? {
            None => Yaml::Null,
            Some(indent) => self.block(indent, 0)?,
        };
        match self.indent()? {
            None => Ok(value),
            Some(_) => Err("this stands further left than what it belongs to".into()),
        }
    }

    /// The indent of the next line that says something; lines that say nothing are passed.
    fn indent(&mut self) -> Result<Option<usize>, String> {
        while let Some(line) = self.lines.get(self.at) {
            let content = line.trim_start_matches(' ');
            if content.starts_with('\t') {
                return Err("a tab stands where spaces indent".into());
            }
            if content.trim_end() == "..." {
                return Ok(None);
            }
            if content.trim_end() == "---" {
                return Err("a second document begins".into());
            }
            if !content.trim_end().is_empty() && !content.starts_with('#') {
                return Ok(Some(line.len() - content.len()));
            }
            self.at += 1;
        }
        Ok(None)
    }

    fn line(&self) -> &str {
        self.lines.get(self.at).map_or("", |line| line.trim())
    }

    fn block(&mut self, indent: usize, depth: usize) -> Result<Yaml, String> {
        if depth > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX}"));
        }
        let line = self.line();
        if is_item(line) { self.list(indent, depth) } else { self.table(indent, depth) }
    }

    fn list(&mut self, indent: usize, depth: usize) -> Result<Yaml, String> {
        let mut list = Vec::new();
        while self.indent()? == Some(indent) && is_item(self.line()) {
            let rest = without_anchor(self.line().trim_start_matches('-').trim_start()).to_owned();
            if rest.is_empty() {
                self.at += 1;
                list.push(self.below(indent, false, depth)?);
            } else if is_item(&rest) || key_of(&rest)?.is_some() {
                // The first line of a nested block stands behind the dash, as if it stood alone in that column.
                let column = self.lines[self.at].len() - self.lines[self.at].trim_start_matches([' ', '-']).len();
                let column = if is_item(&rest) { indent + 2 } else { column };
                self.lines[self.at] = format!("{}{rest}", " ".repeat(column));
                list.push(self.block(column, depth + 1)?);
            } else {
                list.push(self.scalar(rest, indent)?);
            }
        }
        Ok(Yaml::List(list))
    }

    fn table(&mut self, indent: usize, depth: usize) -> Result<Yaml, String> {
        let mut table = BTreeMap::new();
        while self.indent()? == Some(indent) && !is_item(self.line()) {
            let line = self.line().to_owned();
            let Some((key, rest)) = key_of(&line)? else { return Err("this is no `key: value`".into()) };
            let rest = without_anchor(rest);
            let value = if rest.is_empty() || rest.starts_with('#') {
                self.at += 1;
                self.below(indent, true, depth)?
            } else {
                self.scalar(rest.to_owned(), indent)?
            };
            if table.insert(key.clone(), value).is_some() {
                return Err(format!("`{}` stands there twice", key.escape_debug()));
            }
        }
        Ok(Yaml::Table(table))
    }

    /// What belongs to a key or a dash with nothing behind it. The items of a key's list may stand as far left as the key.
    fn below(&mut self, indent: usize, of_key: bool, depth: usize) -> Result<Yaml, String> {
        match self.indent()? {
            Some(deeper) if deeper > indent => {
                let line = self.line();
                if is_item(line) || key_of(line)?.is_some() {
                    return self.block(deeper, depth + 1);
                }
                let text = line.to_owned();
                self.scalar(text, indent)
            }
            Some(same) if same == indent && of_key && is_item(self.line()) => self.list(indent, depth + 1),
            _ => Ok(Yaml::Null),
        }
    }

    /// A scalar that begins on this line; it may go on in the lines below that are indented deeper.
    fn scalar(&mut self, text: String, indent: usize) -> Result<Yaml, String> {
        match text.chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(&text, quote),
            Some('|' | '>') => self.literal(&text, indent),
            Some('{' | '[') => {
                self.at += 1;
                match text.split('#').next().map(str::trim) {
                    Some("{}") => Ok(Yaml::Table(BTreeMap::new())),
                    Some("[]") => Ok(Yaml::List(Vec::new())),
                    _ => Err("a table or list in braces is not read; write it over several lines".into()),
                }
            }
            Some('!') => Err("a tag (`!`) is not read".into()),
            _ => self.plain(&text, indent),
        }
    }

    fn plain(&mut self, text: &str, indent: usize) -> Result<Yaml, String> {
        let mut whole = without_comment(text).to_owned();
        self.at += 1;
        while let Some(line) = self.lines.get(self.at) {
            let content = line.trim_start_matches(' ');
            if content.trim().is_empty() || line.len() - content.len() <= indent || content.starts_with('#') {
                break;
            }
            whole.push(' ');
            whole.push_str(without_comment(content.trim()));
            self.at += 1;
        }
        Ok(if ["null", "Null", "NULL", "~", ""].contains(&whole.as_str()) { Yaml::Null } else { Yaml::Text(whole) })
    }

    /// A text in quotes. A line break in it is a space, an empty line a line break.
    fn quoted(&mut self, text: &str, quote: char) -> Result<Yaml, String> {
        let mut out = String::new();
        let mut line = text[1..].to_owned();
        loop {
            let (joined, rest) = unquote(&line, quote, &mut out)?;
            if let Some(rest) = rest {
                if !without_comment(rest.trim()).is_empty() {
                    return Err("something stands behind the closing quote".into());
                }
                self.at += 1;
                return Ok(Yaml::Text(out));
            }
            if !joined {
                out.truncate(out.trim_end_matches([' ', '\t']).len());
            }
            let mut breaks = 0;
            let next = loop {
                self.at += 1;
                match self.lines.get(self.at).map(|line| line.trim_start()) {
                    None => return Err("a quote is never closed".into()),
                    Some("") => breaks += 1,
                    Some(next) => break next.to_owned(),
                }
            };
            match (joined, breaks) {
                (true, _) => {}
                (false, 0) => out.push(' '),
                (false, breaks) => out.extend(std::iter::repeat_n('\n', breaks)),
            }
            line = next;
        }
    }

    /// `|` keeps the line breaks, `>` makes spaces of them; `-` behind it takes the last one away.
    fn literal(&mut self, text: &str, indent: usize) -> Result<Yaml, String> {
        let mark = without_comment(text).trim();
        let (between, last) = match mark {
            "|" => ("\n", "\n"),
            "|-" => ("\n", ""),
            ">" => (" ", "\n"),
            ">-" => (" ", ""),
            _ => return Err(format!("`{}` is not read", mark.escape_debug())),
        };
        self.at += 1;
        let mut lines: Vec<String> = Vec::new();
        let mut column = None;
        while let Some(line) = self.lines.get(self.at) {
            let content = line.trim_start_matches(' ');
            let here = line.len() - content.len();
            if content.trim().is_empty() {
                lines.push(String::new());
            } else if here <= indent {
                break;
            } else {
                let column = *column.get_or_insert(here);
                lines.push(line.get(column.min(here)..).unwrap_or_default().to_owned());
            }
            self.at += 1;
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        let last = if lines.is_empty() { "" } else { last };
        Ok(Yaml::Text(lines.join(between) + last))
    }
}

/// Whether a line is an item of a list.
fn is_item(line: &str) -> bool {
    line == "-" || line.starts_with("- ")
}

/// The key of a line and what stands behind its colon; `None` if there is no key.
fn key_of(line: &str) -> Result<Option<(String, &str)>, String> {
    if line.starts_with("? ") {
        return Err("a key over several lines is not read".into());
    }
    if let Some(quote @ ('\'' | '"')) = line.chars().next() {
        let mut key = String::new();
        let (_, rest) = unquote(&line[1..], quote, &mut key)?;
        return Ok(rest.and_then(|rest| rest.strip_prefix(':')).filter(|r| r.is_empty() || r.starts_with(' ')).map(|r| (key, r.trim())));
    }
    let end = line.find(": ").or_else(|| line.ends_with(':').then(|| line.len() - 1));
    // A colon in a comment or behind it opens nothing.
    let end = end.filter(|end| !line.starts_with(['{', '[', '|', '>', '&', '*', '!', '#']) && !line[..*end].contains(" #"));
    Ok(end.map(|end| (line[..end].trim_end().to_owned(), line[end + 1..].trim())))
}

fn without_anchor(text: &str) -> &str {
    match text.strip_prefix('&') {
        Some(anchored) => anchored.split_once(' ').map_or("", |(_, rest)| rest.trim_start()),
        None => text,
    }
}

fn without_comment(text: &str) -> &str {
    match text.find(" #") {
        Some(at) => text[..at].trim_end(),
        None if text.starts_with('#') => "",
        None => text,
    }
}

/// Takes the text up to the closing quote, and gives what stands behind it; `None` if the line ends before. The flag says that the line
/// ended in a backslash, which joins it to the next one.
fn unquote<'t>(text: &'t str, quote: char, out: &mut String) -> Result<(bool, Option<&'t str>), String> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' if quote == '\'' && text[at + 1..].starts_with('\'') => {
                chars.next();
                out.push('\'');
            }
            c if c == quote => return Ok((false, Some(&text[at + 1..]))),
            '\\' if quote == '"' => match chars.next() {
                None => return Ok((true, None)),
                Some((_, escape)) => {
                    let digits = match escape {
                        'x' => 2,
                        'u' => 4,
                        'U' => 8,
                        other => {
                            out.push(escaped(other)?);
                            continue;
                        }
                    };
                    let from = at + 2;
                    let code = text.get(from..from + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
                    out.push(code.ok_or("an escape is not the number of a character")?);
                    chars.nth(digits - 1);
                }
            },
            c => out.push(c),
        }
    }
    Ok((false, None))
}

fn escaped(c: char) -> Result<char, String> {
    Ok(match c {
        '0' => '\0',
        'a' => '\x07',
        'b' => '\x08',
        't' | '\t' => '\t',
        'n' => '\n',
        'v' => '\x0b',
        'f' => '\x0c',
        'r' => '\r',
        'e' => '\x1b',
        ' ' | '"' | '/' | '\\' => c,
        'N' => '\u{85}',
        '_' => '\u{a0}',
        'L' => '\u{2028}',
        'P' => '\u{2029}',
        other => return Err(format!("`\\{other}` is no escape")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Yaml {
        Yaml::read(text).expect(text)
    }
    fn text(text: &str) -> Yaml {
        Yaml::Text(text.to_owned())
    }
    fn list(items: &[&str]) -> Yaml {
        Yaml::List(items.iter().map(|item| text(item)).collect())
    }

    #[test]
    fn tables_lists_and_scalars() {
        let yaml = read(
            "a: 1\nb:\n  c: x y # why\n  d: null\n  e:\n  f: {}\nlist:\n- one\n- 'two'\n- k: v\n  w:\n  - deep\n-\n  k: z\n'q: r': \"s\"\nu: https://x.y/z#a\n",
        );
        assert_eq!(yaml.get("a"), Some(&text("1")));
        let b = yaml.get("b").expect("b");
        assert_eq!((b.get("c"), b.get("d"), b.get("e")), (Some(&text("x y")), Some(&Yaml::Null), Some(&Yaml::Null)));
        assert_eq!(b.get("f"), Some(&Yaml::Table(BTreeMap::new())));
        let Some(Yaml::List(items)) = yaml.get("list") else { panic!("a list") };
        assert_eq!(items[..2], [text("one"), text("two")]);
        assert_eq!((items[2].get("k"), items[2].get("w")), (Some(&text("v")), Some(&list(&["deep"]))));
        assert_eq!(items[3].get("k"), Some(&text("z")));
        assert_eq!((yaml.get("q: r"), yaml.get("u")), (Some(&text("s")), Some(&text("https://x.y/z#a"))));
        assert_eq!(read("a:\n  - x\n  - y\n").get("a"), Some(&list(&["x", "y"])), "indented items too");
        assert_eq!(read("- - a\n  - b\n- c\n"), Yaml::List(vec![list(&["a", "b"]), text("c")]));
        assert_eq!(read(""), Yaml::Null);
    }

    #[test]
    fn texts_over_several_lines() {
        let yaml = read(
            "a: '[{\"x\": 1},\n  {\"y\": ''2''}]'\nb: one\n  two\n\nc: \"be\\\n  \\ en \\xE9\\u00e9\\n\"\nd: 'p\n\n  q'\ne: |-\n  k\n    l\n\n  m\nf: 1\n",
        );
        assert_eq!(yaml.get("a"), Some(&text("[{\"x\": 1}, {\"y\": '2'}]")));
        assert_eq!(yaml.get("b"), Some(&text("one two")));
        assert_eq!(yaml.get("c"), Some(&text("be en éé\n")));
        assert_eq!(yaml.get("d"), Some(&text("p\nq")));
        assert_eq!(yaml.get("e"), Some(&text("k\n  l\n\nm")));
        assert_eq!(yaml.get("f"), Some(&text("1")));
    }

    #[test]
    fn what_is_not_read_is_said_with_its_line() {
        for (bad, part) in [
            ("a: 1\nb: !!binary x\n", "line 2: a tag"),
            ("a: [1, 2]\n", "in braces"),
            ("a: 1\n\tb: 2\n", "line 2: a tab"),
            ("a: 'x\n", "never closed"),
            ("a: 'x' y\n", "behind the closing quote"),
            ("a: 1\na: 2\n", "`a` stands there twice"),
            ("a: 1\n---\nb: 2\n", "second document"),
            ("a: \"\\q\"\n", "no escape"),
            ("a: \"\\uD800\"\n", "number of a character"),
            ("  a: 1\nb: 2\n", "further left"),
            ("just words\n", "no `key: value`"),
            ("? a\n: b\n", "a key over several lines"),
            ("a: >+\n", "is not read"),
        ] {
            let why = Yaml::read(bad).expect_err(bad);
            assert!(why.contains(part), "{bad}: {why}");
        }
        let deep: String = (0..100).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
        assert!(Yaml::read(&deep).expect_err("deep").contains("nested"));
    }

    #[test]
    fn nothing_makes_it_panic() {
        let sample = "a: '[{\"x\": 1},\n  {\"y\": ''2''}]'\nb:\n- k: \"\\u00e9\\\n    z\"\n  w: |\n    t\n- é: null\n";
        for at in 0..=sample.len() {
            let Some(head) = sample.get(..at) else { continue };
            let _ = Yaml::read(head);
            for c in ["\n", "  ", "- ", ":", "'", "\"", "\\", "é", "|", "{", "#", "&x ", "\t"] {
                let _ = Yaml::read(&format!("{head}{c}{}", &sample[at..]));
            }
        }
    }
}
