//! Raw bytes, written in base64.
//!
//! The decoder takes standard base64 with its padding (line ends in it are ignored, and unused bits at the end may be
//! anything), and also a list of numbers from 0 to 255. The schema is stricter with the first and knows nothing of the
//! elements of the second. Written back it is always base64.

use crate::resource::decode::{Decoder, Field, serde_by_tree};
use crate::resource::value::Value;

/// Bytes that a document holds in base64.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Bytes(pub Vec<u8>);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Bytes {
    /// The bytes of a text in standard base64, with padding.
    pub fn from_base64(text: &str) -> Option<Self> {
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
        let mut group: u32 = 0;
        let (mut digits, mut padding) = (0u8, 0u8);
        let mut ended = false;
        for byte in text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')) {
            if ended {
                return None;
            }
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if digits >= 2 => {
                    padding += 1;
                    0
                }
                _ => return None,
            };
            if padding > 0 && byte != b'=' {
                return None;
            }
            group = group << 6 | u32::from(digit);
            digits += 1;
            if digits == 4 {
                let [_, first, second, third] = group.to_be_bytes();
                bytes.extend([first, second, third].iter().take(usize::from(3 - padding)));
                ended = padding > 0;
                (group, digits, padding) = (0, 0, 0);
            }
        }
        (digits == 0).then_some(Self(bytes))
    }

    /// The bytes in standard base64, with padding.
    pub fn to_base64(&self) -> String {
        let digit =
            |group: u32, shift: u32| ALPHABET.get((group >> shift & 63) as usize).map_or('=', |byte| char::from(*byte));
        let mut text = String::with_capacity(self.0.len().div_ceil(3) * 4);
        for chunk in self.0.chunks(3) {
            let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
            let group = at(0) << 16 | at(1) << 8 | at(2);
            text.push(digit(group, 18));
            text.push(digit(group, 12));
            text.push(if chunk.len() > 1 { digit(group, 6) } else { '=' });
            text.push(if chunk.len() > 2 { digit(group, 0) } else { '=' });
        }
        text
    }
}

impl Field for Bytes {
    fn decode(value: &Value, decoder: &mut Decoder) -> Self {
        if value.as_list().is_some() {
            let numbers: Vec<u32> = Vec::decode(value, decoder);
            let bytes: Result<Vec<u8>, _> = numbers.into_iter().map(u8::try_from).collect();
            return bytes.map(Self).unwrap_or_else(|_| {
                decoder.error(value, || "a byte must be a number from 0 to 255".to_owned());
                Self::default()
            });
        }
        value.as_str().and_then(Self::from_base64).unwrap_or_else(|| {
            decoder.expected("standard base64 with its padding", value);
            Self::default()
        })
    }

    fn encode(&self) -> Value {
        self.to_base64().into()
    }

    fn is_unset(&self) -> bool {
        self.0.is_empty()
    }
}

serde_by_tree!(Bytes);
