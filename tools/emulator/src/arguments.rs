//! Arguments on the command line: numbers, structures and buffers.

use emulator::{Argument, Device};
use std::{error::Error, fs};

/// A buffer to print.
pub struct Shown {
    base: u64,
    count: usize,
    ty: String,
}

/// Arguments with their buffers on the device.
#[derive(Default)]
pub struct Placed {
    pub arguments: Vec<Box<dyn Argument>>,
    pub shown: Vec<Shown>,
}

/// Reads arguments and puts their buffers on the device.
pub fn place(device: &mut Device, texts: &[String]) -> Result<Placed, Box<dyn Error>> {
    let mut placed = Placed::default();
    for (k, text) in texts.iter().enumerate() {
        let bad = |why: String| format!("--arg {text}: {why}");
        let (print, body) = text.strip_prefix('+').map_or((false, text.as_str()), |body| (true, body));
        // The name of a buffer's file may hold a colon.
        let single = body.split_once(':').filter(|(ty, _)| !ty.contains('['));
        if let Some((ty, value)) = single {
            if print {
                return Err(bad("only a buffer can be printed".into()).into());
            }
            placed.arguments.push(scalar(ty, value).map_err(bad)?);
            continue;
        }
        let neither = "neither TYPE:VALUE, bytes:HEX, bytes:@FILE nor TYPE[COUNT]=CONTENT";
        let (ty, rest) = body.split_once('[').ok_or_else(|| bad(neither.into()))?;
        let (count, content) = rest.split_once("]=").ok_or_else(|| bad(neither.into()))?;
        let count: usize = count.parse().map_err(|_| bad(format!("{count}: a number of elements is needed")))?;
        let size = size_of_type(ty)
            .ok_or_else(|| bad(format!("type {ty}: one of u8, bf16, f16, i32, u32, f32, i64, u64, f64 is needed")))?;
        let bytes = count.checked_mul(size).ok_or_else(|| bad("more bytes than there are addresses".into()))?;
        let values = contents(content, (ty, count, bytes), k).map_err(bad)?;
        let base = device.alloc(&format!("argument {k}"), bytes)?;
        if let Some(values) = values {
            device.upload(base, &values)?;
        }
        if print {
            placed.shown.push(Shown { base, count, ty: ty.to_string() });
        }
        placed.arguments.push(Box::new(base));
    }
    Ok(placed)
}

/// What a buffer holds at first, that of argument `k`; None: it is unwritten.
fn contents(content: &str, (ty, count, size): (&str, usize, usize), k: usize) -> Result<Option<Vec<u8>>, String> {
    if let Some(file) = content.strip_prefix('@') {
        let bytes = read(file)?;
        return match bytes.len() == size {
            true => Ok(Some(bytes)),
            false => Err(format!("{file} has {} bytes, {count} of {ty} have {size}", bytes.len())),
        };
    }
    let letters = content.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = content[letters.len()..].parse::<u64>().ok();
    let unknown = || format!("content {content}: random, positive, zeros, index, poison or @FILE is needed");
    if number.is_none() && letters.len() < content.len() {
        return Err(unknown());
    }
    // A small generator: the same numbers on every machine.
    let mut state = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(number.unwrap_or(k as u64 + 1));
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let modulo = number.unwrap_or(u64::MAX).max(1);
    Ok(match (letters, number) {
        ("random", _) => Some((0..count).flat_map(|_| element(ty, random())).collect()),
        ("positive", _) => Some((0..count).flat_map(|_| element(ty, random().abs())).collect()),
        ("zeros", None) => Some(vec![0; size]),
        ("index", _) => Some((0..count).flat_map(|i| element(ty, (i as u64 % modulo) as f64)).collect()),
        ("poison", None) => None,
        _ => return Err(unknown()),
    })
}

fn scalar(ty: &str, value: &str) -> Result<Box<dyn Argument>, String> {
    fn number<T: std::str::FromStr + Argument + 'static>(ty: &str, value: &str) -> Result<Box<dyn Argument>, String> {
        let number = value.parse::<T>().map_err(|_| format!("{value}: no number of type {ty}"))?;
        Ok(Box::new(number))
    }
    match ty {
        "u8" => number::<u8>(ty, value),
        "i32" => number::<i32>(ty, value),
        "u32" => number::<u32>(ty, value),
        "i64" => number::<i64>(ty, value),
        "u64" => number::<u64>(ty, value),
        "f32" => number::<f32>(ty, value),
        "f64" => number::<f64>(ty, value),
        "bytes" => Ok(Box::new(structure(value)?)),
        _ => Err(format!("type {ty}: one of u8, i32, u32, i64, u64, f32, f64, bytes is needed")),
    }
}

/// The bytes of a structure, in hexadecimal digits or from a file.
fn structure(value: &str) -> Result<Vec<u8>, String> {
    if let Some(file) = value.strip_prefix('@') {
        return read(file);
    }
    let pairs = value.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok();
    pairs.map(byte).collect::<Option<_>>().ok_or_else(|| format!("{value}: two hexadecimal digits a byte are needed"))
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{file}: {error}"))
}

/// The elements of a buffer, for people.
pub fn show(device: &mut Device, buffer: &Shown) -> Result<String, Box<dyn Error>> {
    let size = size_of_type(&buffer.ty).ok_or("a buffer has a type")?;
    let bytes = device.download(buffer.base, buffer.count * size)?;
    let values: Vec<String> = bytes.chunks_exact(size).map(|bytes| element_text(&buffer.ty, bytes)).collect();
    Ok(values.join(" "))
}

fn size_of_type(ty: &str) -> Option<usize> {
    Some(match ty {
        "u8" => 1,
        "bf16" | "f16" => 2,
        "i32" | "u32" | "f32" => 4,
        "i64" | "u64" | "f64" => 8,
        _ => return None,
    })
}

/// A number as an element of a buffer.
fn element(ty: &str, x: f64) -> Vec<u8> {
    match ty {
        "u8" => (x as u8).to_le_bytes().into(),
        "bf16" => half::bf16::from_f64(x).to_le_bytes().into(),
        "f16" => half::f16::from_f64(x).to_le_bytes().into(),
        "i32" => (x as i32).to_le_bytes().into(),
        "u32" => (x as u32).to_le_bytes().into(),
        "f32" => (x as f32).to_le_bytes().into(),
        "i64" => (x as i64).to_le_bytes().into(),
        "u64" => (x as u64).to_le_bytes().into(),
        _ => x.to_le_bytes().into(),
    }
}

/// An element for people.
fn element_text(ty: &str, bytes: &[u8]) -> String {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(word);
    match ty {
        "bf16" => half::bf16::from_bits(bits as u16).to_string(),
        "f16" => half::f16::from_bits(bits as u16).to_string(),
        "f32" => f32::from_bits(bits as u32).to_string(),
        "f64" => f64::from_bits(bits).to_string(),
        "i32" => (bits as u32 as i32).to_string(),
        "i64" => (bits as i64).to_string(),
        _ => bits.to_string(),
    }
}
