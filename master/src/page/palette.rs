//! Palette index → CSS: the 256 colours of a terminal, each made readable on a light and on a dark page.

use super::ansi::CUBE;
use std::fmt::Write as _;

type Colour = [u8; 3];

/// The log's background on a light and on a dark page; `page.css` uses the same.
const PAPER: [Colour; 2] = [[0xff, 0xff, 0xff], [0x10, 0x14, 0x18]];

/// Contrast that text keeps against its paper: so much more than 4.5 (WCAG 2.2, success criterion 1.4.3) that this is left
/// where a row is tinted, because it is an error, selected or pointed at.
const CONTRAST: f64 = 5.6;

/// The first sixteen colours as text, on light and on dark paper.
const TEXT: [[u32; 16]; 2] = [
    [
        0x24292f, 0xb3261e, 0x1a7f37, 0x8a5a00, 0x0b5cad, 0x8033a8, 0x0f6f74, 0x5c6670, 0x57606a, 0xc9302c, 0x1f883d,
        0x9a6700, 0x0969da, 0x8250df, 0x1b7c83, 0x3c444d,
    ],
    [
        0x8b949e, 0xff7b72, 0x56d364, 0xe3b341, 0x79c0ff, 0xd2a8ff, 0x56d4dd, 0xd0d7de, 0x8b949e, 0xffa198, 0x7ee787,
        0xf2cc60, 0xa5d6ff, 0xe2c5ff, 0xb3f0ff, 0xffffff,
    ],
];

/// The first sixteen colours as background, the same on both.
const GROUND: [u32; 16] = [
    0x24292f, 0xb3261e, 0x1a7f37, 0x9a6700, 0x0b5cad, 0x8033a8, 0x0f6f74, 0xd0d7de, 0x57606a, 0xff7b72, 0x56d364,
    0xe3b341, 0x79c0ff, 0xd2a8ff, 0x56d4dd, 0xffffff,
];

fn of(hex: u32) -> Colour {
    [(hex >> 16) as u8, (hex >> 8) as u8, hex as u8]
}

/// This to the power of 2.4, between 0.01 and 1: by its fifth root, after Newton. What does it for all numbers is 8 KB of tables.
fn raised(value: f64) -> f64 {
    let root = (0..32).fold(1.0, |root: f64, _| (4.0 * root + value / (root * root * root * root)) / 5.0);
    value * value * root * root
}

fn luminance(colour: Colour) -> f64 {
    let part = |value: u8| {
        let value = f64::from(value) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { raised((value + 0.055) / 1.055) }
    };
    0.2126 * part(colour[0]) + 0.7152 * part(colour[1]) + 0.0722 * part(colour[2])
}

fn contrast(a: Colour, b: Colour) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

fn palette(index: u16) -> Colour {
    if index >= 232 {
        return [(8 + 10 * (index - 232)) as u8; 3];
    }
    let cube = index.saturating_sub(16);
    let level = |digit: u16| CUBE.get(usize::from(digit)).copied().unwrap_or(0) as u8;
    [level(cube / 36), level(cube / 6 % 6), level(cube % 6)]
}

/// Moves a colour away from the paper until it can be read on it.
fn readable(mut colour: Colour, paper: Colour) -> Colour {
    let towards = if luminance(paper) > 0.5 { 0_i32 } else { 255 };
    while contrast(colour, paper) < CONTRAST {
        for part in &mut colour {
            let value = i32::from(*part);
            *part = (value + (towards - value).signum() * 8.min((towards - value).abs())) as u8;
        }
    }
    colour
}

fn hex(colour: Colour) -> String {
    format!("#{:02x}{:02x}{:02x}", colour[0], colour[1], colour[2])
}

/// The style sheet. Backgrounds come first and bring a readable text colour, which a colour of the job's own overrides.
pub fn css() -> String {
    let mut out = String::new();
    for index in 0..256_u16 {
        let ground = GROUND.get(usize::from(index)).map_or_else(|| palette(index), |hex| of(*hex));
        let text = if luminance(ground) > 0.18 { "#000" } else { "#fff" };
        let _ = write!(out, ".b{index}{{background:{};color:{text}}}", hex(ground));
    }
    for (theme, paper) in PAPER.iter().enumerate() {
        if theme == 1 {
            out.push_str("@media(prefers-color-scheme:dark){");
        }
        for index in 0..256_u16 {
            let own = TEXT.get(theme).and_then(|text| text.get(usize::from(index))).map(|hex| of(*hex));
            let colour = readable(own.unwrap_or_else(|| palette(index)), *paper);
            let _ = write!(out, ".f{index}{{color:{}}}", hex(colour));
        }
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_can_be_read_on_both_papers() {
        for paper in PAPER {
            for index in 0..256 {
                assert!(contrast(readable(palette(index), paper), paper) >= CONTRAST, "{index}");
            }
        }
        assert_eq!(palette(196), [255, 0, 0]);
        assert_eq!(palette(255), [238; 3]);
    }

    #[test]
    fn a_power_is_what_it_is() {
        for value in 1..=100 {
            let value = f64::from(value) / 100.0;
            assert!((raised(value) - value.powf(2.4)).abs() < 1e-12, "{value}");
        }
    }

    #[test]
    fn the_sheet_names_each_colour_and_keeps_its_size() {
        let css = css();
        for rule in [".b0{", ".b255{", ".f0{", ".f255{"] {
            assert!(css.contains(rule), "{rule}");
        }
        assert_eq!(css.matches('{').count(), css.matches('}').count());
        assert!(css.len() < 32 << 10, "{}", css.len());
    }
}
