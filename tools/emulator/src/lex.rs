//! PTX text to tokens. An opcode with all its modifiers (`ld.global.nc.v4.f32`) is one word.

use crate::error::LoadError;

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// An opcode, a directive, a register, a label or another name.
    Word(String),
    /// An integer literal, as the 64 bits it denotes.
    Int(u64),
    /// `0f3F800000`, as bits.
    F32(u32),
    /// `0d3FF0000000000000` or a decimal literal such as `1.5`, as bits.
    F64(u64),
    /// A file name.
    Text(String),
    Punct(char),
}

#[derive(Debug, Clone)]
pub struct Token {
    pub kind: Kind,
    /// Line in the PTX text, from 1.
    pub line: u32,
}

/// The tokens of a PTX text, without comments.
pub fn lex(text: &str) -> Result<Vec<Token>, LoadError> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::with_capacity(text.len() / 5);
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let rest = &bytes[at..];
        match rest[0] {
            b'\n' => {
                line += 1;
                at += 1;
            }
            b' ' | b'\t' | b'\r' => at += 1,
            b'/' if rest.starts_with(b"//") => at += until(rest, b"\n"),
            b'/' if rest.starts_with(b"/*") => {
                let length = until(&rest[2..], b"*/") + 4;
                let comment = &rest[..length.min(rest.len())];
                line += comment.iter().filter(|b| **b == b'\n').count() as u32;
                at += comment.len();
            }
            b'"' => {
                let length = until(&rest[1..], b"\"");
                let inner = String::from_utf8_lossy(&rest[1..1 + length]).into_owned();
                line += inner.matches('\n').count() as u32;
                tokens.push(Token { kind: Kind::Text(inner), line });
                at += (length + 2).min(rest.len());
            }
            b'0'..=b'9' => {
                let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'.').count();
                tokens.push(Token { kind: number(&text[at..at + length], line)?, line });
                at += length;
            }
            b if is_word(b) => {
                let length = word_length(rest);
                tokens.push(Token { kind: Kind::Word(text[at..at + length].to_string()), line });
                at += length;
            }
            b if b"{}[]()<>,;:+-=|@!".contains(&b) => {
                tokens.push(Token { kind: Kind::Punct(b as char), line });
                at += 1;
            }
            b => return Err(LoadError::at(line, format!("byte {b:#04x}: no PTX token starts with it"))),
        }
    }
    Ok(tokens)
}

/// Bytes before the first `end`, or all of them.
fn until(rest: &[u8], end: &[u8]) -> usize {
    rest.windows(end.len()).position(|w| w == end).unwrap_or(rest.len())
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"_$%.".contains(&b)
}

/// A word may hold `::` (`shared::cta`), while a single `:` ends a label.
fn word_length(rest: &[u8]) -> usize {
    let mut length = 0;
    while length < rest.len() {
        if is_word(rest[length]) {
            length += 1;
        } else if rest[length..].starts_with(b"::") {
            length += 2;
        } else {
            break;
        }
    }
    length
}

fn number(text: &str, line: u32) -> Result<Kind, LoadError> {
    let bad = || LoadError::at(line, format!("{text}: not a PTX number"));
    let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).map_err(|_| bad());
    let digits = text.strip_suffix('U').unwrap_or(text);
    match digits.get(..2) {
        Some("0f" | "0F") if digits.len() == 10 => Ok(Kind::F32(radix(&digits[2..], 16)? as u32)),
        Some("0d" | "0D") if digits.len() == 18 => Ok(Kind::F64(radix(&digits[2..], 16)?)),
        Some("0x" | "0X") => Ok(Kind::Int(radix(&digits[2..], 16)?)),
        Some("0b" | "0B") => Ok(Kind::Int(radix(&digits[2..], 2)?)),
        _ if digits.contains('.') => Ok(Kind::F64(digits.parse::<f64>().map_err(|_| bad())?.to_bits())),
        _ if digits.len() > 1 && digits.starts_with('0') => Ok(Kind::Int(radix(&digits[1..], 8)?)),
        _ => Ok(Kind::Int(radix(digits, 10)?)),
    }
}
