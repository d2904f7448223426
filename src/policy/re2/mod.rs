//! The regular expressions that Istio and Envoy take, translated for Rust's engine.
//!
//! Istio's control plane reads a pattern with Go's `regexp/syntax`, Envoy compiles it with RE2 in Latin-1: pattern and
//! subject are bytes. Both must take it. So a pattern is parsed twice by the same grammar, once by characters (Go) and
//! once by bytes (RE2), and what the second reading means is written out again in a form that leaves nothing to
//! dialects: every class as a set of bytes, flags applied, groups without names.
//!
//! What is special: `\d \w \s \b` are ASCII; `\pL` and the like classify the 256 characters of Latin-1; case folds in
//! ASCII, a class before it is negated; `&&` and `--` in a class are plain characters; `{a}` is text; `\Q…\E` quotes;
//! `\07` is octal; groups may share a name; look-around, back-references, `(?x)`, `\C`, `\u` and stacked repetitions are
//! refused, though flags or an empty quotation between two repetitions unstack them; a repetition counts to 1000, nested
//! ones together.
//!
//! Where the two differ ([`Dialect`]): Go takes the name of a class in any case, with blanks, `-` and `_` left out, and
//! long names of categories; RE2 takes names as Unicode writes them. Go does not count what is inside of `{0}`.
//!
//! How large a program RE2 makes of a pattern is reckoned from below: of alternatives only the longest counts. What is
//! over the limit that Istio gives Envoy is refused.
//!
//! Cost: linear in the pattern; nesting is kept on a stack of its own, so that depth costs memory and no calls.

mod class;

use class::{Set, perl_class, posix_class, unicode_class, word};

/// Go's limit of nesting.
const MAX_DEPTH: usize = 1000;
const MAX_REPEAT: u32 = 1000;
/// The most instructions that Envoy takes of RE2, as Istio sets it up.
const MAX_PROGRAM: u64 = 32_768;

/// Translates a pattern. The error is in words.
pub(super) fn translate(source: &str) -> Result<String, String> {
    check_go(source)?;
    let bytes: Vec<u32> = source.bytes().map(u32::from).collect();
    Parser::new(&bytes, Dialect::Re2).run()
}

/// Does Go take it? (Istio's webhook asks no more.)
pub(super) fn check_go(source: &str) -> Result<(), String> {
    let characters: Vec<u32> = source.chars().map(u32::from).collect();
    Parser::new(&characters, Dialect::Go).run().map(drop)
}

/// Whose reading it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// By characters. Only the grammar is asked; the text of this reading is thrown away.
    Go,
    /// By bytes.
    Re2,
}

impl Dialect {
    /// The greatest character.
    fn most(self) -> u32 {
        match self {
            Dialect::Go => 0x10_ffff,
            Dialect::Re2 => 0xff,
        }
    }
}

/// Flags in force.
#[derive(Clone, Copy, Default)]
struct Flags {
    fold: bool,
    multi_line: bool,
    dot_all: bool,
    swap_greed: bool,
}

/// What has been written of one concatenation's last piece.
struct Piece {
    text: String,
    /// How often its innermost part repeats: what a repetition around it multiplies.
    repeats: u32,
    /// Whether it ends in a repetition, which no other can follow.
    repeated: bool,
    /// Whether a repetition can be written behind it as it is.
    atomic: bool,
    /// Whether it can match nothing but the empty text: RE2 does not repeat that.
    empty: bool,
    /// At least so many instructions RE2 makes of it.
    size: u64,
}

impl Piece {
    fn atom(text: String, size: u64) -> Piece {
        Piece { text, repeats: 1, repeated: false, atomic: true, empty: false, size }
    }
}

/// A group that is open, or the whole pattern.
#[derive(Default)]
struct Level {
    /// How the group begins.
    open: &'static str,
    /// The flags to return to behind it.
    outside: Flags,
    text: String,
    /// What is not in the text yet, since a repetition may follow.
    pieces: Vec<Piece>,
    repeats: u32,
    /// Whether there is something that is not empty.
    full: bool,
    /// The size of the longest alternative.
    size: u64,
}

impl Level {
    /// The end of an alternative.
    fn flush(&mut self) {
        let mut size = 0_u64;
        for piece in self.pieces.drain(..) {
            self.text.push_str(&piece.text);
            self.repeats = self.repeats.max(piece.repeats);
            self.full |= !piece.empty;
            size = size.saturating_add(piece.size);
        }
        self.size = self.size.max(size);
    }
}

struct Parser<'a> {
    input: &'a [u32],
    at: usize,
    dialect: Dialect,
    flags: Flags,
    level: Level,
    /// The groups around, outermost first.
    around: Vec<Level>,
    /// Whether there is a class of no byte, of which RE2 makes nothing, nor of what stands beside it.
    void: bool,
}

impl<'a> Parser<'a> {
    fn new(input: &'a [u32], dialect: Dialect) -> Parser<'a> {
        let level = Level { repeats: 1, ..Level::default() };
        Parser { input, at: 0, dialect, flags: Flags::default(), level, around: Vec::new(), void: false }
    }

    fn run(mut self) -> Result<String, String> {
        while let Some(next) = self.peek(0) {
            match next {
                '(' => {
                    self.at += 1;
                    self.open()?;
                }
                ')' => {
                    self.at += 1;
                    self.close()?;
                }
                '|' => {
                    self.at += 1;
                    self.level.flush();
                    self.level.text.push('|');
                }
                '*' | '+' | '?' => {
                    self.at += 1;
                    self.repeat(&next.to_string(), None)?;
                }
                '{' => match self.counts() {
                    Some((least, most, length)) => {
                        if least > MAX_REPEAT || most.is_some_and(|most| most > MAX_REPEAT || most < least) {
                            return Err("a repetition counts to 1000 at most".into());
                        }
                        self.at += length;
                        let text = match most {
                            Some(most) if most == least => format!("{{{least}}}"),
                            Some(most) => format!("{{{least},{most}}}"),
                            None => format!("{{{least},}}"),
                        };
                        self.repeat(&text, Some((least, most)))?;
                    }
                    None => {
                        self.at += 1;
                        self.literal(u32::from('{'));
                    }
                },
                _ => self.atom()?,
            }
        }
        if !self.around.is_empty() {
            return Err("a `(` has no `)`".into());
        }
        self.level.flush();
        // A text that it must begin with is no part of the program.
        let most = MAX_PROGRAM + self.input.len() as u64;
        if self.dialect == Dialect::Re2 && self.level.size > most && !self.void {
            return Err(format!("RE2 makes more than {MAX_PROGRAM} instructions of it, the most that Envoy takes"));
        }
        Ok(self.level.text)
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        char::from_u32(*self.input.get(self.at + ahead)?)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek(0) == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn push(&mut self, set: &Set) {
        let size = set.instructions();
        self.void |= size == 0;
        self.level.pieces.push(Piece::atom(set.write(), size));
    }

    /// `^`, `\b` and the like.
    fn assertion(&mut self, text: &str) {
        self.level.pieces.push(Piece { atomic: false, empty: true, ..Piece::atom(text.into(), 1) });
    }

    /// What writes nothing has come after the last piece: a repetition of it does not follow another now.
    fn unstack(&mut self) {
        if let Some(piece) = self.level.pieces.last_mut() {
            piece.repeated = false;
        }
    }

    /// `{n}`, `{n,}` or `{n,m}` here: its counts and its length. Anything else is text.
    fn counts(&self) -> Option<(u32, Option<u32>, usize)> {
        let rest = self.input.get(self.at + 1..)?;
        let length = rest.iter().position(|unit| *unit == u32::from('}'))?;
        let inner: String = rest[..length].iter().map(|unit| char::from_u32(*unit)).collect::<Option<_>>()?;
        let length = length + 2;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // No leading zeros; what does not fit is too much in any case.
            (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().unwrap_or(u32::MAX))
        };
        match inner.split_once(',') {
            None => number(&inner).map(|count| (count, Some(count), length)),
            Some((least, "")) => number(least).map(|least| (least, None, length)),
            Some((least, most)) => Some((number(least)?, Some(number(most)?), length)),
        }
    }

    fn repeat(&mut self, operator: &str, counts: Option<(u32, Option<u32>)>) -> Result<(), String> {
        let lazy = self.eat('?') != self.flags.swap_greed;
        let Some(piece) = self.level.pieces.last_mut() else {
            return Err("a repetition has nothing to repeat".into());
        };
        if piece.repeated {
            return Err("a repetition cannot follow another".into());
        }
        if let Some((least, most)) = counts {
            let times = most.unwrap_or(least).max(1);
            piece.repeats = piece.repeats.saturating_mul(times);
            if piece.repeats > MAX_REPEAT {
                return Err("nested repetitions count to 1000 at most, together".into());
            }
            if most == Some(0) && self.dialect == Dialect::Go {
                piece.repeats = 1;
            }
            if !piece.empty {
                piece.size = piece.size.saturating_mul(u64::from(most.unwrap_or(least.max(1))));
            }
        }
        let lazy = if lazy { "?" } else { "" };
        piece.text = if piece.atomic {
            format!("{}{operator}{lazy}", piece.text)
        } else {
            format!("(?:{}){operator}{lazy}", piece.text)
        };
        piece.repeated = true;
        piece.atomic = false;
        Ok(())
    }

    /// After `(`: a group, or flags for the rest.
    fn open(&mut self) -> Result<(), String> {
        let outside = self.flags;
        let mut open = "(";
        if self.eat('?') {
            let named = match (self.peek(0), self.peek(1)) {
                (Some('=' | '!'), _) => return Err("RE2 cannot look ahead (`(?=` and `(?!`)".into()),
                (Some('<'), Some('=' | '!')) => return Err("RE2 cannot look behind (`(?<=` and `(?<!`)".into()),
                (Some('P'), Some('<')) => Some(2),
                (Some('<'), _) => Some(1),
                _ => None,
            };
            if let Some(skip) = named {
                self.at += skip;
                self.name()?;
            } else if self.set_flags()? {
                open = "(?:";
            } else {
                self.unstack();
                return Ok(());
            }
        }
        if self.around.len() >= MAX_DEPTH {
            return Err("it is nested too deeply".into());
        }
        let level = Level { open, outside, repeats: 1, ..Level::default() };
        self.around.push(std::mem::replace(&mut self.level, level));
        Ok(())
    }

    /// After `)`.
    fn close(&mut self) -> Result<(), String> {
        let Some(around) = self.around.pop() else { return Err("unexpected `)`".into()) };
        let mut inner = std::mem::replace(&mut self.level, around);
        inner.flush();
        self.flags = inner.outside;
        let text = format!("{}{})", inner.open, inner.text);
        let size = inner.size.saturating_add(if inner.open == "(" { 2 } else { 0 });
        self.level.pieces.push(Piece { repeats: inner.repeats, empty: !inner.full, ..Piece::atom(text, size) });
        Ok(())
    }

    fn name(&mut self) -> Result<(), String> {
        let rest = &self.input[self.at..];
        let length = rest.iter().position(|unit| *unit == u32::from('>')).ok_or("a group's name has no `>`")?;
        let name = &rest[..length];
        let is_word = |unit: &u32| u8::try_from(*unit).is_ok_and(word);
        if name.is_empty() || !name.iter().all(is_word) {
            return Err("a group's name is made of letters, digits and `_`".into());
        }
        self.at += length + 1;
        Ok(())
    }

    /// After `(?`: flags up to `:` (true: a group follows) or `)`.
    fn set_flags(&mut self) -> Result<bool, String> {
        let mut on = true;
        let mut any = false;
        loop {
            let Some(next) = self.peek(0) else { return Err("a `(?` has no end".into()) };
            self.at += 1;
            any |= matches!(next, 'i' | 'm' | 's' | 'U');
            match next {
                'i' => self.flags.fold = on,
                'm' => self.flags.multi_line = on,
                's' => self.flags.dot_all = on,
                'U' => self.flags.swap_greed = on,
                '-' if on => {
                    on = false;
                    any = false;
                }
                ':' | ')' if on || any => return Ok(next == ':'),
                _ => return Err(format!("`(?{next}` is not known: flags are i, m, s and U")),
            }
        }
    }

    fn literal(&mut self, unit: u32) {
        let mut set = Set::empty();
        set.insert((unit & 0xff) as u8);
        if self.flags.fold {
            set.fold();
        }
        self.push(&set);
    }

    fn atom(&mut self) -> Result<(), String> {
        let Some(&unit) = self.input.get(self.at) else { return Ok(()) };
        self.at += 1;
        match char::from_u32(unit) {
            Some('.') => {
                let dot_all = self.flags.dot_all;
                self.push(&Set::of(|byte| dot_all || byte != b'\n'));
            }
            Some('^') => self.assertion(if self.flags.multi_line { "(?m:^)" } else { r"\A" }),
            Some('$') => self.assertion(if self.flags.multi_line { "(?m:$)" } else { r"\z" }),
            Some('[') => {
                let set = self.class()?;
                self.push(&set);
            }
            Some('\\') => self.escaped()?,
            _ => self.literal(unit),
        }
        Ok(())
    }

    /// After a backslash, outside a class.
    fn escaped(&mut self) -> Result<(), String> {
        match self.peek(0) {
            Some('A') => self.assertion(r"\A"),
            Some('z') => self.assertion(r"\z"),
            Some('b') => self.assertion(r"\b"),
            Some('B') => self.assertion(r"\B"),
            Some('Q') => {
                self.at += 1;
                self.unstack();
                while let Some(&unit) = self.input.get(self.at) {
                    if self.peek(0) == Some('\\') && self.peek(1) == Some('E') {
                        self.at += 2;
                        break;
                    }
                    self.literal(unit);
                    self.at += 1;
                }
                return Ok(());
            }
            _ => {
                if let Some(set) = self.class_escape()? {
                    self.push(&set);
                } else {
                    let unit = self.character_escape()?;
                    self.literal(unit);
                }
                return Ok(());
            }
        }
        self.at += 1;
        Ok(())
    }

    /// After a backslash: `\d`, `\pN`, `\p{Greek}`, …
    fn class_escape(&mut self) -> Result<Option<Set>, String> {
        let Some(&unit) = self.input.get(self.at) else { return Ok(None) };
        if let Some(set) = perl_class(unit) {
            self.at += 1;
            return Ok(Some(set));
        }
        let Some(letter @ ('p' | 'P')) = char::from_u32(unit) else { return Ok(None) };
        self.at += 1;
        let mut negative = letter == 'P';
        let mut name = String::new();
        if self.eat('{') {
            loop {
                match self.peek(0) {
                    None => return Err(r"a `\p{` has no `}`".into()),
                    Some('}') => break,
                    Some(next) => name.push(next),
                }
                self.at += 1;
            }
            self.at += 1;
        } else {
            name.extend(self.peek(0));
            self.at += 1;
        }
        if let Some(rest) = name.strip_prefix('^') {
            negative = !negative;
            name = rest.to_owned();
        }
        let set = unicode_class(&name, self.dialect).ok_or_else(|| format!(r"`\p{{{name}}}` is not a known class"))?;
        Ok(Some(self.named(set, negative)))
    }

    /// After a backslash: one character.
    fn character_escape(&mut self) -> Result<u32, String> {
        let Some(&unit) = self.input.get(self.at) else { return Err("a backslash has nothing after it".into()) };
        let Some(letter) = char::from_u32(unit) else { return Err("not a character".into()) };
        self.at += 1;
        let octal = |unit: Option<&u32>| unit.and_then(|unit| char::from_u32(*unit)?.to_digit(8));
        Ok(match letter {
            'a' => 0x07,
            'f' => 0x0c,
            't' => 0x09,
            'n' => 0x0a,
            'r' => 0x0d,
            'v' => 0x0b,
            '0'..='7' => {
                // A single digit other than 0 would be a back-reference.
                if letter != '0' && octal(self.input.get(self.at)).is_none() {
                    return Err(format!(r"`\{letter}` is a back-reference, which there is not"));
                }
                let mut value = letter.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = octal(self.input.get(self.at)) else { break };
                    value = value * 8 + digit;
                    self.at += 1;
                }
                self.bounded(value)?
            }
            'x' => self.hexadecimal()?,
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => unit,
            other => return Err(format!(r"`\{other}` is not a known escape")),
        })
    }

    fn hexadecimal(&mut self) -> Result<u32, String> {
        let bad = || r"`\x` takes two hexadecimal digits, or some in braces".to_owned();
        let digit = |parser: &Parser<'_>| parser.peek(0).and_then(|next| next.to_digit(16));
        if self.eat('{') {
            let mut value: u32 = 0;
            let mut any = false;
            while let Some(next) = digit(self) {
                value = value.saturating_mul(16).saturating_add(next);
                any = true;
                self.at += 1;
            }
            if !any || !self.eat('}') {
                return Err(bad());
            }
            return self.bounded(value);
        }
        let mut value = 0;
        for _ in 0..2 {
            value = value * 16 + digit(self).ok_or_else(bad)?;
            self.at += 1;
        }
        Ok(value)
    }

    fn bounded(&self, value: u32) -> Result<u32, String> {
        if value > self.dialect.most() {
            return Err(format!(r"`\x{{{value:x}}}` is more than a byte can be"));
        }
        Ok(value)
    }

    /// A class with a name: its case folds before it is negated.
    fn named(&self, mut set: Set, negative: bool) -> Set {
        if self.flags.fold {
            set.fold();
        }
        if negative { set.negate() } else { set }
    }

    /// After `[`.
    fn class(&mut self) -> Result<Set, String> {
        let negative = self.eat('^');
        let mut set = Set::empty();
        let mut first = true;
        loop {
            let Some(next) = self.peek(0) else { return Err("a `[` has no `]`".into()) };
            if next == ']' && !first {
                self.at += 1;
                break;
            }
            first = false;
            if next == '[' && self.peek(1) == Some(':') {
                let rest = self.input.get(self.at + 2..).unwrap_or_default();
                let end = rest.windows(2).position(|pair| pair == [u32::from(':'), u32::from(']')]);
                if let Some(length) = end {
                    let name: String = rest[..length].iter().filter_map(|unit| char::from_u32(*unit)).collect();
                    let (bare, not) = name.strip_prefix('^').map_or((name.as_str(), false), |bare| (bare, true));
                    let class = posix_class(bare).ok_or_else(|| format!("`[:{name}:]` is not a known class"))?;
                    set.add(&self.named(class, not));
                    self.at += length + 4;
                    continue;
                }
            }
            if next == '\\' {
                self.at += 1;
                if let Some(class) = self.class_escape()? {
                    set.add(&class);
                    continue;
                }
                self.at -= 1;
            }
            let low = self.class_character()?;
            let mut high = low;
            if self.peek(0) == Some('-') && self.peek(1).is_some_and(|after| after != ']') {
                self.at += 1;
                high = self.class_character()?;
                if high < low {
                    return Err("a range in a class ends before it begins".into());
                }
            }
            for unit in low..=high.min(0xff) {
                set.insert(unit as u8);
            }
        }
        Ok(self.named(set, negative))
    }

    fn class_character(&mut self) -> Result<u32, String> {
        if self.eat('\\') {
            return self.character_escape();
        }
        let Some(&unit) = self.input.get(self.at) else { return Err("a `[` has no `]`".into()) };
        self.at += 1;
        Ok(unit)
    }
}
