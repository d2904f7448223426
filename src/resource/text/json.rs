//! A reader of JSON that knows where everything stands.
//!
//! Strict in grammar (RFC 8259), and in two points beyond it: a key may not be there twice, and half of a surrogate
//! pair is refused. Numbers are kept as their text. One pass, linear.

use std::collections::BTreeSet;

use super::{Budget, Limits, TextError, push_unique};
use crate::resource::value::{Data, Entry, Map, Number, Position, Value};

/// Reads one value after another from a text.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    column: usize,
    depth: usize,
    most_depth: usize,
    budget: Budget,
}

impl<'a> Reader<'a> {
    /// A reader that counts lines from `line`.
    pub(crate) fn new(text: &'a str, line: usize, limits: &Limits) -> Self {
        let budget = Budget::new(limits, text.len());
        Self { text, at: 0, line, column: 1, depth: 0, most_depth: limits.depth(), budget }
    }

    /// Whether nothing but blanks is left; skips them.
    pub(crate) fn at_end(&mut self) -> bool {
        self.blanks();
        self.at == self.text.len()
    }

    /// How far it has come.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// Gives the next value its own allowance.
    pub(crate) fn refill(&mut self, limits: &Limits) {
        self.budget = Budget::new(limits, self.text.len() - self.at);
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn here(&self) -> Position {
        Position { line: self.line, column: self.column }
    }

    /// Passes over ASCII bytes of one line.
    fn skip(&mut self, count: usize) {
        self.at += count;
        self.column += count;
    }

    fn blanks(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.skip(1);
            if byte == b'\n' {
                self.line += 1;
                self.column = 1;
            }
        }
    }

    fn wrong<T>(&self, expected: &str) -> Result<T, TextError> {
        let found = self.text.get(self.at..).and_then(|rest| rest.chars().next());
        let found = found.map_or_else(|| "the end".to_owned(), |c| format!("`{}`", c.escape_debug()));
        Err(TextError::new(Some(self.here()), format!("expected {expected}, found {found}")))
    }

    fn pay(&mut self, length: usize) -> Result<(), TextError> {
        let position = self.here();
        self.budget.pay(length).map_err(|message| TextError::new(Some(position), message))
    }

    fn deeper(&mut self) -> Result<(), TextError> {
        self.depth += 1;
        if self.depth > self.most_depth {
            let message = format!("the document is deeper than {} levels", self.most_depth);
            return Err(TextError::new(Some(self.here()), message));
        }
        self.skip(1);
        Ok(())
    }

    /// Reads one value.
    pub(crate) fn value(&mut self) -> Result<Value, TextError> {
        self.blanks();
        let position = Some(self.here());
        let data = match self.peek() {
            Some(b'{') => Data::Map(self.map()?),
            Some(b'[') => Data::List(self.list()?),
            Some(b'"') => {
                let text = self.string()?;
                self.pay(text.len())?;
                Data::String(text)
            }
            Some(b'-' | b'0'..=b'9') => Data::Number(self.number()?),
            _ => {
                let rest = self.text.get(self.at..).unwrap_or("");
                let words = [("null", Data::Null), ("true", Data::Bool(true)), ("false", Data::Bool(false))];
                let Some((word, data)) = words.into_iter().find(|(word, _)| rest.starts_with(word)) else {
                    return self.wrong("a value");
                };
                self.skip(word.len());
                data
            }
        };
        self.pay(0)?;
        Ok(Value { data, position })
    }

    fn map(&mut self) -> Result<Map, TextError> {
        self.deeper()?;
        let mut map = Map::new();
        let mut seen = BTreeSet::new();
        loop {
            self.blanks();
            if self.peek() == Some(b'}') && map.is_empty() {
                break;
            }
            let position = Some(self.here());
            if self.peek() != Some(b'"') {
                return self.wrong("a key in double quotes");
            }
            let key = self.string()?;
            self.pay(key.len())?;
            self.blanks();
            if self.peek() != Some(b':') {
                return self.wrong("`:`");
            }
            self.skip(1);
            let value = self.value()?;
            push_unique(&mut map, &mut seen, Entry { key, position, value })?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.skip(1),
                Some(b'}') => break,
                _ => return self.wrong("`,` or `}`"),
            }
        }
        self.skip(1);
        self.depth -= 1;
        Ok(map)
    }

    fn list(&mut self) -> Result<Vec<Value>, TextError> {
        self.deeper()?;
        let mut items = Vec::new();
        loop {
            self.blanks();
            if self.peek() == Some(b']') && items.is_empty() {
                break;
            }
            items.push(self.value()?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.skip(1),
                Some(b']') => break,
                _ => return self.wrong("`,` or `]`"),
            }
        }
        self.skip(1);
        self.depth -= 1;
        Ok(items)
    }

    fn number(&mut self) -> Result<Number, TextError> {
        let rest = self.text.get(self.at..).unwrap_or("");
        let part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let length = rest.bytes().take_while(|byte| part(byte)).count();
        match rest.get(..length).and_then(Number::from_json) {
            Some(number) => {
                self.skip(length);
                Ok(number)
            }
            None => self.wrong("a number"),
        }
    }

    fn string(&mut self) -> Result<String, TextError> {
        self.skip(1);
        let mut text = String::new();
        loop {
            let rest = self.text.get(self.at..).unwrap_or("");
            let plain = rest.bytes().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count();
            let run = rest.get(..plain).unwrap_or("");
            text.push_str(run);
            self.at += plain;
            self.column += run.chars().count();
            match self.peek() {
                Some(b'"') => {
                    self.skip(1);
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                _ => return self.wrong("the end of a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, TextError> {
        self.skip(1);
        let plain = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.skip(1);
                let first = self.hex()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first).map_or_else(|| self.wrong("a whole surrogate pair"), Ok);
                }
                if !self.text.get(self.at..).unwrap_or("").starts_with("\\u") {
                    return self.wrong("a whole surrogate pair");
                }
                self.skip(2);
                let second = self.hex()?;
                let both = match second {
                    0xdc00..0xe000 => char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)),
                    _ => None,
                };
                return both.map_or_else(|| self.wrong("a whole surrogate pair"), Ok);
            }
            _ => return self.wrong("an escape"),
        };
        self.skip(1);
        Ok(plain)
    }

    fn hex(&mut self) -> Result<u32, TextError> {
        let digits = self.text.get(self.at..self.at + 4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                self.skip(4);
                Ok(code)
            }
            None => self.wrong("four hexadecimal digits"),
        }
    }
}
