//! Classes of characters, as sets of the bytes that they are in Latin-1: by the names of Perl, POSIX and Unicode.

use super::Dialect;

/// A set of bytes.
#[derive(Clone)]
pub(super) struct Set([bool; 256]);

impl Set {
    pub(super) fn empty() -> Set {
        Set([false; 256])
    }

    pub(super) fn of(test: impl Fn(u8) -> bool) -> Set {
        let mut set = Set::empty();
        for byte in 0..=255u8 {
            set.0[usize::from(byte)] = test(byte);
        }
        set
    }

    /// Puts a byte in.
    pub(super) fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte)] = true;
    }

    pub(super) fn negate(&self) -> Set {
        Set::of(|byte| !self.0[usize::from(byte)])
    }

    pub(super) fn add(&mut self, other: &Set) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own |= other;
        }
    }

    pub(super) fn fold(&mut self) {
        for lower in b'a'..=b'z' {
            let (lower, upper) = (usize::from(lower), usize::from(lower - 32));
            let either = self.0[lower] || self.0[upper];
            self.0[lower] = either;
            self.0[upper] = either;
        }
    }

    /// The first and the last of each run of bytes.
    fn ranges(&self) -> Vec<(u8, u8)> {
        let mut ranges: Vec<(u8, u8)> = Vec::new();
        for byte in (0..=255u8).filter(|byte| self.0[usize::from(*byte)]) {
            match ranges.last_mut() {
                Some((_, last)) if *last == byte.wrapping_sub(1) => *last = byte,
                _ => ranges.push((byte, byte)),
            }
        }
        ranges
    }

    pub(super) fn write(&self) -> String {
        let ranges = self.ranges();
        if ranges.is_empty() {
            return r"[^\x00-\xff]".into();
        }
        let ranges: String = ranges.iter().map(|(from, to)| format!(r"\x{from:02x}-\x{to:02x}")).collect();
        format!("[{ranges}]")
    }

    /// How many instructions RE2 makes of it: one for each range, capitals apart where they only double small letters.
    pub(super) fn instructions(&self) -> u64 {
        let folds = (b'a'..=b'z').all(|lower| self.0[usize::from(lower)] == self.0[usize::from(lower - 32)]);
        let double = |from: u8, to: u8| folds && from.is_ascii_uppercase() && to.is_ascii_uppercase();
        self.ranges().iter().filter(|(from, to)| !double(*from, *to)).count() as u64
    }
}

pub(super) fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

pub(super) fn perl_class(name: u32) -> Option<Set> {
    let name = char::from_u32(name)?;
    let set = match name.to_ascii_lowercase() {
        'd' => Set::of(|byte| byte.is_ascii_digit()),
        's' => Set::of(|byte| matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | b' ')),
        'w' => Set::of(word),
        _ => return None,
    };
    Some(if name.is_ascii_uppercase() { set.negate() } else { set })
}

pub(super) fn posix_class(name: &str) -> Option<Set> {
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

/// The categories that both know.
const CATEGORIES: &str =
    "C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs";

/// What else Go knows as a class, without blanks, `-` and `_`.
const GO_CLASSES: &str = "Any Assigned Ascii Casedletter Closepunctuation Cn Cntrl Combiningmark Connectorpunctuation Control \
    Currencysymbol Dashpunctuation Decimalnumber Digit Enclosingmark Finalpunctuation Format Initialpunctuation Lc \
    Letter Letternumber Lineseparator Lowercaseletter Mark Mathsymbol Modifierletter Modifiersymbol Nonspacingmark \
    Number Openpunctuation Other Otherletter Othernumber Otherpunctuation Othersymbol Paragraphseparator Privateuse \
    Punct Punctuation Separator Spaceseparator Spacingmark Surrogate Symbol Titlecaseletter Unassigned \
    Uppercaseletter";

/// The scripts that both know: of Unicode 15, and of one word, since Go does not find its own names with a `_`.
const SCRIPTS: &str = "Adlam Ahom Arabic Armenian Avestan Balinese Bamum Batak Bengali Bhaiksuki Bopomofo Brahmi Braille Buginese Buhid \
    Carian Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot Cyrillic Deseret Devanagari Dogra \
    Duployan Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati Gurmukhi Han Hangul Hanunoo \
    Hatran Hebrew Hiragana Inherited Javanese Kaithi Kannada Katakana Kawi Kharoshthi Khmer Khojki Khudawadi Lao \
    Latin Lepcha Limbu Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean Marchen Medefaidrin Miao \
    Modi Mongolian Mro Multani Myanmar Nabataean Nandinagari Newa Nko Nushu Ogham Oriya Osage Osmanya Palmyrene \
    Phoenician Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham Sinhala Sogdian Soyombo Sundanese Syriac \
    Tagalog Tagbanwa Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai \
    Vithkuqi Wancho Yezidi Yi";

fn is_among(names: &str, name: &str) -> bool {
    names.split(' ').any(|known| known == name)
}

/// A name as Go looks it up: a capital and small letters, without blanks, `-` and `_`.
fn go_name(name: &str) -> String {
    let mut letters = name.chars().filter(|letter| !matches!(letter, ' ' | '-' | '_'));
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters.map(|letter| letter.to_ascii_lowercase())).collect()
}

/// A Unicode class over the characters of Latin-1. For Go the class is empty: it is asked only whether there is one.
pub(super) fn unicode_class(name: &str, dialect: Dialect) -> Option<Set> {
    if dialect == Dialect::Go {
        let name = go_name(name);
        let known = [CATEGORIES, GO_CLASSES, SCRIPTS].iter().any(|names| is_among(names, &name));
        return known.then(Set::empty);
    }
    let text = if name == "Any" {
        return Some(Set::of(|_| true));
    } else if name == "Cs" {
        // Nothing that a byte can be, and no class of Rust's.
        return Some(Set::empty());
    } else if is_among(CATEGORIES, name) {
        format!(r"\p{{gc={name}}}")
    } else if is_among(SCRIPTS, name) {
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
