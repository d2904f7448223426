//! The regular expressions that Istio and Envoy take, translated for Rust's engine.
//!
//! Istio's control plane reads a pattern with Go's `regexp/syntax`, Envoy compiles it with RE2 in Latin-1: pattern and
//! subject are bytes. Both must take it. So a pattern is parsed twice by the same grammar, once by characters (Go) and
//! once by bytes (RE2), and what the second reading means is written out again in a form that leaves nothing to
//! dialects: every class as a set of bytes, flags applied, groups without names.
//!
//! What is special: `\d \w \s \b` are ASCII; `\pL` and the like classify the 256 characters of Latin-1; case folds in
//! ASCII; `&&` and `--` in a class are plain characters; `{a}` is text; `\Q…\E` quotes; `\07` is octal; look-around,
//! back-references, `(?x)`, `\C`, `\u` and stacked repetitions are refused; a repetition counts to 1000, nested ones
//! together.

/// Not deeper than this.
const MAX_DEPTH: usize = 250;
const MAX_REPEAT: u32 = 1000;

/// Translates a pattern. The error is in words.
pub(super) fn translate(source: &str) -> Result<String, String> {
    let characters: Vec<u32> = source.chars().map(u32::from).collect();
    Parser::new(&characters, 0x10_ffff).run()?;
    let bytes: Vec<u32> = source.bytes().map(u32::from).collect();
    Parser::new(&bytes, 0xff).run()
}

/// Does Go take it? (Istio's webhook asks no more.)
pub(super) fn check_go(source: &str) -> Result<(), String> {
    let characters: Vec<u32> = source.chars().map(u32::from).collect();
    Parser::new(&characters, 0x10_ffff).run().map(drop)
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
    repeated: bool,
}

struct Parser<'a> {
    input: &'a [u32],
    at: usize,
    /// The greatest character.
    most: u32,
    depth: usize,
    names: Vec<Vec<u32>>,
}

/// A set of bytes.
#[derive(Clone)]
struct Set([bool; 256]);

impl Set {
    fn empty() -> Set {
        Set([false; 256])
    }

    fn of(test: impl Fn(u8) -> bool) -> Set {
        let mut set = Set::empty();
        for byte in 0..=255u8 {
            set.0[usize::from(byte)] = test(byte);
        }
        set
    }

    fn negate(&self) -> Set {
        Set::of(|byte| !self.0[usize::from(byte)])
    }

    fn add(&mut self, other: &Set) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own |= other;
        }
    }

    fn fold(&mut self) {
        for lower in b'a'..=b'z' {
            let (lower, upper) = (usize::from(lower), usize::from(lower - 32));
            let either = self.0[lower] || self.0[upper];
            self.0[lower] = either;
            self.0[upper] = either;
        }
    }

    fn write(&self) -> String {
        let mut text = String::from("[");
        let mut from = 0;
        while from < 256 {
            if !self.0[from] {
                from += 1;
                continue;
            }
            let mut to = from;
            while to < 255 && self.0[to + 1] {
                to += 1;
            }
            text.push_str(&format!(r"\x{from:02x}-\x{to:02x}"));
            from = to + 1;
        }
        if text.len() == 1 {
            // Nothing at all.
            return r"[^\x00-\xff]".into();
        }
        text.push(']');
        text
    }
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn perl_class(name: u32) -> Option<Set> {
    let name = char::from_u32(name)?;
    let set = match name.to_ascii_lowercase() {
        'd' => Set::of(|byte| byte.is_ascii_digit()),
        's' => Set::of(|byte| matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | b' ')),
        'w' => Set::of(word),
        _ => return None,
    };
    Some(if name.is_ascii_uppercase() { set.negate() } else { set })
}

fn posix_class(name: &str) -> Option<Set> {
    Some(match name {
        "alnum" => Set::of(|byte| byte.is_ascii_alphanumeric()),
        "alpha" => Set::of(|byte| byte.is_ascii_alphabetic()),
        "ascii" => Set::of(|byte| byte.is_ascii()),
        "blank" => Set::of(|byte| matches!(byte, b'\t' | b' ')),
        "cntrl" => Set::of(|byte| byte.is_ascii_control()),
        "digit" => Set::of(|byte| byte.is_ascii_digit()),
        "graph" => Set::of(|byte| byte.is_ascii_graphic()),
        "lower" => Set::of(|byte| byte.is_ascii_lowercase()),
        "print" => Set::of(|byte| byte.is_ascii_graphic() || byte == b' '),
        "punct" => Set::of(|byte| byte.is_ascii_punctuation()),
        "space" => Set::of(|byte| matches!(byte, b'\t'..=b'\r' | b' ')),
        "upper" => Set::of(|byte| byte.is_ascii_uppercase()),
        "word" => Set::of(word),
        "xdigit" => Set::of(|byte| byte.is_ascii_hexdigit()),
        _ => return None,
    })
}

const CATEGORIES: &[&str] = &[
    "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P",
    "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs",
];

/// A Unicode class over the characters of Latin-1.
fn unicode_class(name: &str) -> Option<Set> {
    if name == "Any" {
        return Some(Set::of(|_| true));
    }
    let mut letters = name.chars();
    let script = letters.next().is_some_and(|first| first.is_ascii_uppercase())
        && name.len() > 2
        && letters.all(|letter| letter.is_ascii_alphabetic() || letter == '_')
        // Long names of categories and other properties are none of Go's or RE2's.
        && regex_syntax::parse(&format!(r"\p{{Script={name}}}")).is_ok();
    let text = if CATEGORIES.contains(&name) {
        format!(r"\p{{gc={name}}}")
    } else if script {
        format!(r"\p{{Script={name}}}")
    } else {
        return None;
    };
    let hir = regex_syntax::parse(&text).ok()?;
    let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) = hir.kind() else {
        // One character alone is a literal, and none of the 256 is a category by itself.
        return Some(Set::empty());
    };
    let ranges: Vec<(u32, u32)> =
        class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect();
    Some(Set::of(|byte| ranges.iter().any(|(from, to)| (*from..=*to).contains(&u32::from(byte)))))
}

impl<'a> Parser<'a> {
    fn new(input: &'a [u32], most: u32) -> Parser<'a> {
        Parser { input, at: 0, most, depth: 0, names: Vec::new() }
    }

    fn run(mut self) -> Result<String, String> {
        let (text, _) = self.alternation(Flags::default())?;
        if self.at < self.input.len() {
            return Err("unexpected `)`".into());
        }
        Ok(text)
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        char::from_u32(*self.input.get(self.at + ahead)?)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek(0) == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Up to the end or an unmatched `)`. Flags set inside hold to its end.
    fn alternation(&mut self, mut flags: Flags) -> Result<(String, u32), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("it is nested too deeply".into());
        }
        let mut text = String::new();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut repeats = 1;
        let flush = |pieces: &mut Vec<Piece>, text: &mut String, repeats: &mut u32| {
            for piece in pieces.drain(..) {
                text.push_str(&piece.text);
                *repeats = (*repeats).max(piece.repeats);
            }
        };
        while let Some(next) = self.peek(0) {
            match next {
                ')' => break,
                '|' => {
                    self.at += 1;
                    flush(&mut pieces, &mut text, &mut repeats);
                    text.push('|');
                }
                '*' | '+' | '?' => {
                    self.at += 1;
                    self.repeat(&mut pieces, &next.to_string(), None, flags)?;
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
                        self.repeat(&mut pieces, &text, Some((least, most)), flags)?;
                    }
                    None => {
                        self.at += 1;
                        pieces.push(self.literal(u32::from('{'), flags));
                    }
                },
                '(' => {
                    self.at += 1;
                    if let Some(piece) = self.group(&mut flags)? {
                        pieces.push(piece);
                    }
                }
                _ => self.atom(&mut pieces, flags)?,
            }
        }
        flush(&mut pieces, &mut text, &mut repeats);
        self.depth -= 1;
        Ok((text, repeats))
    }

    /// `{n}`, `{n,}` or `{n,m}` here: its counts and its length. Anything else is text.
    fn counts(&self) -> Option<(u32, Option<u32>, usize)> {
        let rest: String = self.input[self.at..].iter().take(24).filter_map(|unit| char::from_u32(*unit)).collect();
        let inner = rest.strip_prefix('{')?;
        let (inner, _) = inner.split_once('}')?;
        let length = inner.len() + 2;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // No leading zeros; what does not fit is too much in any case.
            (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().unwrap_or(u32::MAX))
        };
        match inner.split_once(',') {
            None => number(inner).map(|count| (count, Some(count), length)),
            Some((least, "")) => number(least).map(|least| (least, None, length)),
            Some((least, most)) => Some((number(least)?, Some(number(most)?), length)),
        }
    }

    fn repeat(
        &mut self,
        pieces: &mut [Piece],
        operator: &str,
        counts: Option<(u32, Option<u32>)>,
        flags: Flags,
    ) -> Result<(), String> {
        let lazy = self.eat('?') != flags.swap_greed;
        let Some(piece) = pieces.last_mut() else { return Err("a repetition has nothing to repeat".into()) };
        if piece.repeated {
            return Err("a repetition cannot follow another".into());
        }
        if let Some((least, most)) = counts {
            let times = most.unwrap_or(least).max(1);
            piece.repeats = piece.repeats.saturating_mul(times);
            if piece.repeats > MAX_REPEAT {
                return Err("nested repetitions count to 1000 at most, together".into());
            }
        }
        piece.text = format!("(?:{}){operator}{}", piece.text, if lazy { "?" } else { "" });
        piece.repeated = true;
        Ok(())
    }

    /// After `(`: a group, or flags for the rest.
    fn group(&mut self, flags: &mut Flags) -> Result<Option<Piece>, String> {
        let mut inner = *flags;
        let mut open = "(";
        if self.eat('?') {
            open = "(?:";
            let named = match (self.peek(0), self.peek(1)) {
                (Some('P'), Some('<')) => Some(2),
                (Some('<'), _) => Some(1),
                _ => None,
            };
            if let Some(skip) = named {
                self.at += skip;
                self.name()?;
                open = "(";
            } else if !self.flags(&mut inner)? {
                *flags = inner;
                return Ok(None);
            }
        }
        let (text, repeats) = self.alternation(inner)?;
        if !self.eat(')') {
            return Err("a `(` has no `)`".into());
        }
        Ok(Some(Piece { text: format!("{open}{text})"), repeats, repeated: false }))
    }

    fn name(&mut self) -> Result<(), String> {
        let rest = &self.input[self.at..];
        let length = rest.iter().position(|unit| *unit == u32::from('>')).ok_or("a group's name has no `>`")?;
        let name = &rest[..length];
        let is_word = |unit: &u32| u8::try_from(*unit).is_ok_and(word);
        if name.is_empty() || !name.iter().all(is_word) {
            return Err("a group's name is made of letters, digits and `_`".into());
        }
        if self.names.iter().any(|known| known == name) {
            return Err("two groups have the same name".into());
        }
        self.names.push(name.to_vec());
        self.at += length + 1;
        Ok(())
    }

    /// After `(?`: flags up to `:` (true: a group follows) or `)`.
    fn flags(&mut self, flags: &mut Flags) -> Result<bool, String> {
        let mut on = true;
        let mut any = false;
        loop {
            let Some(next) = self.peek(0) else { return Err("a `(?` has no end".into()) };
            self.at += 1;
            any |= matches!(next, 'i' | 'm' | 's' | 'U');
            match next {
                'i' => flags.fold = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_all = on,
                'U' => flags.swap_greed = on,
                '-' if on => {
                    on = false;
                    any = false;
                }
                ':' | ')' if on || any => return Ok(next == ':'),
                _ => return Err(format!("`(?{next}` is not known: flags are i, m, s and U")),
            }
        }
    }

    fn literal(&self, unit: u32, flags: Flags) -> Piece {
        let mut set = Set::empty();
        // By characters only the grammar is asked; the text of that reading is thrown away.
        set.0[(unit & 0xff) as usize] = true;
        if flags.fold {
            set.fold();
        }
        Piece { text: set.write(), repeats: 1, repeated: false }
    }

    fn atom(&mut self, pieces: &mut Vec<Piece>, flags: Flags) -> Result<(), String> {
        let plain = |text: &str| Piece { text: text.into(), repeats: 1, repeated: false };
        let unit = self.input[self.at];
        match self.peek(0) {
            Some('.') => {
                self.at += 1;
                let set = Set::of(|byte| flags.dot_all || byte != b'\n');
                pieces.push(plain(&set.write()));
            }
            Some('^') => {
                self.at += 1;
                pieces.push(plain(if flags.multi_line { "(?m:^)" } else { r"\A" }));
            }
            Some('$') => {
                self.at += 1;
                pieces.push(plain(if flags.multi_line { "(?m:$)" } else { r"\z" }));
            }
            Some('[') => {
                self.at += 1;
                let set = self.class(flags)?;
                pieces.push(plain(&set.write()));
            }
            Some('\\') => {
                self.at += 1;
                self.escaped(pieces, flags)?;
            }
            _ => {
                self.at += 1;
                pieces.push(self.literal(unit, flags));
            }
        }
        Ok(())
    }

    /// After a backslash, outside a class.
    fn escaped(&mut self, pieces: &mut Vec<Piece>, flags: Flags) -> Result<(), String> {
        let plain = |text: &str| Piece { text: text.into(), repeats: 1, repeated: false };
        match self.peek(0) {
            Some('A') => pieces.push(plain(r"\A")),
            Some('z') => pieces.push(plain(r"\z")),
            Some('b') => pieces.push(plain(r"\b")),
            Some('B') => pieces.push(plain(r"\B")),
            Some('Q') => {
                self.at += 1;
                while let Some(unit) = self.input.get(self.at) {
                    if self.peek(0) == Some('\\') && self.peek(1) == Some('E') {
                        self.at += 2;
                        return Ok(());
                    }
                    pieces.push(self.literal(*unit, flags));
                    self.at += 1;
                }
                return Ok(());
            }
            _ => {
                if let Some(mut set) = self.class_escape()? {
                    if flags.fold {
                        set.fold();
                    }
                    pieces.push(plain(&set.write()));
                } else {
                    let unit = self.character_escape()?;
                    pieces.push(self.literal(unit, flags));
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
        let set = unicode_class(&name).ok_or_else(|| format!(r"`\p{{{name}}}` is not a known class"))?;
        Ok(Some(if negative { set.negate() } else { set }))
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
        if value > self.most {
            return Err(format!(r"`\x{{{value:x}}}` is more than a byte can be"));
        }
        Ok(value)
    }

    /// After `[`.
    fn class(&mut self, flags: Flags) -> Result<Set, String> {
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
                let rest: String =
                    self.input[self.at + 2..].iter().take(16).filter_map(|unit| char::from_u32(*unit)).collect();
                if let Some((name, _)) = rest.split_once(":]") {
                    let (bare, not) = name.strip_prefix('^').map_or((name, false), |bare| (bare, true));
                    let class = posix_class(bare).ok_or_else(|| format!("`[:{name}:]` is not a known class"))?;
                    set.add(&if not { class.negate() } else { class });
                    self.at += name.len() + 4;
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
                set.0[unit as usize] = true;
            }
        }
        if flags.fold {
            set.fold();
        }
        Ok(if negative { set.negate() } else { set })
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
