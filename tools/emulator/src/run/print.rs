//! `printf`: formats as C does, for the arguments that CUDA packs into local memory.

use super::{World, warp::Warp};
use crate::{
    check::{Checked, Kind, accuse},
    ir::Print,
    regs::{LANES, lanes},
    types::Space,
    window,
};

/// Longest text that is read from device memory.
const LONGEST: usize = 4096;

impl World<'_> {
    pub(super) fn print(&mut self, warp: &mut Warp, print: &Print, active: u32) -> Checked {
        let formats: [u64; LANES] = warp.regs.get(print.format);
        let arguments: [u64; LANES] = warp.regs.get(print.arguments);
        for lane in lanes(active) {
            let format = self.text(formats[lane])?;
            let mut next = arguments[lane];
            let line = self.format(warp, &format, lane, &mut next)?;
            self.output.push_str(&line);
        }
        if let Some(out) = print.out {
            warp.regs.set_row(out, active, &[1; LANES]);
        }
        Ok(())
    }

    /// A C string in global memory.
    pub(super) fn text(&mut self, address: u64) -> Checked<String> {
        let mut bytes = vec![];
        for at in 0..LONGEST as u64 {
            match self.global.find(address + at, 1) {
                Some((allocation, offset)) if allocation.block.bytes[offset] != 0 => {
                    bytes.push(allocation.block.bytes[offset]);
                }
                Some(_) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                None => return super::global::outside(self.global, address + at, 1, None),
            }
        }
        accuse(Kind::Memory, None, format!("a text of more than {LONGEST} bytes"))
    }

    fn format(&mut self, warp: &Warp, format: &str, lane: usize, next: &mut u64) -> Checked<String> {
        let mut out = String::new();
        let mut rest = format.chars().peekable();
        while let Some(c) = rest.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut spec = String::new();
            let conversion = loop {
                match rest.next() {
                    Some(c) if "-+ #0123456789.lhzjt".contains(c) => spec.push(c),
                    Some(c) => break c,
                    None => return accuse(Kind::Unsupported, lane, format!("printf format {format:?} ends in a %")),
                }
            };
            if conversion == '%' {
                out.push('%');
                continue;
            }
            let wide = spec.contains(['l', 'z', 'j', 't']) || "pseEfFgGaA".contains(conversion);
            let bits = self.argument(warp, lane, next, if wide { 8 } else { 4 })?;
            let signed = if wide { bits as i64 } else { i64::from(bits as u32 as i32) };
            let float = f64::from_bits(bits);
            let precision =
                spec.split_once('.').and_then(|(_, p)| p.trim_end_matches(char::is_alphabetic).parse::<usize>().ok());
            let body = match conversion {
                'd' | 'i' => signed.to_string(),
                'u' => bits.to_string(),
                'x' => format!("{bits:x}"),
                'X' => format!("{bits:X}"),
                'o' => format!("{bits:o}"),
                'c' => (bits as u8 as char).to_string(),
                'p' => format!("{bits:#x}"),
                's' => self.text(bits)?,
                'f' | 'F' => format!("{float:.*}", precision.unwrap_or(6)),
                'e' | 'E' => exponent(float, precision.unwrap_or(6)),
                'g' | 'G' => general(float, precision.unwrap_or(6).max(1)),
                other => return accuse(Kind::Unsupported, lane, format!("printf conversion %{other}")),
            };
            out.push_str(&pad(body, &spec));
        }
        Ok(out)
    }

    fn argument(&mut self, warp: &Warp, lane: usize, next: &mut u64, size: u64) -> Checked<u64> {
        let end = next.checked_next_multiple_of(size).and_then(|address| address.checked_add(size));
        let Some(end) = end else {
            return super::global::outside(self.global, *next, size as usize, lane);
        };
        let address = end - size;
        *next = end;
        let size = size as usize;
        let mut word = [0; 8];
        match window::classify(address) {
            Some((Space::Local, at)) if at as usize + size <= self.kernel.local as usize => {
                let from = lane * self.kernel.local as usize + at as usize;
                word[..size].copy_from_slice(&warp.local.bytes[from..from + size]);
            }
            _ => match self.global.find(address, size) {
                Some((allocation, at)) => word[..size].copy_from_slice(&allocation.block.bytes[at..at + size]),
                None => return super::global::outside(self.global, address, size, lane),
            },
        }
        Ok(u64::from_le_bytes(word))
    }
}

/// C's `%e`: at least two digits of exponent.
fn exponent(x: f64, precision: usize) -> String {
    let text = format!("{x:.precision$e}");
    match text.split_once('e') {
        Some((mantissa, power)) => {
            let (sign, digits) = power.strip_prefix('-').map_or(('+', power), |d| ('-', d));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

/// C's `%g`: the shorter of the two notations, without trailing zeros.
fn general(x: f64, precision: usize) -> String {
    if x == 0.0 || !x.is_finite() {
        return format!("{x}");
    }
    let scientific = exponent(x, precision - 1);
    let power: i32 = scientific.split_once('e').and_then(|(_, p)| p.parse().ok()).unwrap_or(0);
    if power < -4 || power >= precision as i32 {
        let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "+00"));
        return format!("{}e{power}", trim(mantissa));
    }
    trim(&format!("{x:.*}", (precision as i32 - 1 - power) as usize)).to_string()
}

fn trim(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

/// Applies flags and width.
fn pad(mut body: String, spec: &str) -> String {
    let flags: String = spec.chars().take_while(|c| "-+ #0".contains(*c)).collect();
    if flags.contains('+') && !body.starts_with('-') {
        body.insert(0, '+');
    }
    let width: usize =
        spec[flags.len()..].chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
    let missing = width.min(LONGEST).saturating_sub(body.chars().count());
    if flags.contains('-') {
        body.extend(std::iter::repeat_n(' ', missing));
    } else if flags.contains('0') {
        let at = usize::from(body.starts_with(['-', '+']));
        body.insert_str(at, &"0".repeat(missing));
    } else {
        body.insert_str(0, &" ".repeat(missing));
    }
    body
}
