//! A QR code out of half blocks: two modules in one character, so that they are about square.

use fast_qr::{ECL, QRBuilder};

/// As many light modules as the standard wants on every side (ISO/IEC 18004).
const QUIET_ZONE: usize = 4;

/// One line a pair of rows, without colours: a drawn module is a dark one. Absent if `data` is too long, or the picture larger
/// than `columns` × `rows`.
pub fn draw(data: &str, columns: usize, rows: usize) -> Option<Vec<String>> {
    // A screen has no scratches to correct, and the smallest code is the easiest to scan.
    let code = QRBuilder::new(data).ecl(ECL::L).build().ok()?;
    let side = code.size + 2 * QUIET_ZONE;
    if side > columns || side.div_ceil(2) > rows {
        return None;
    }
    let is_dark = |row: usize, column: usize| {
        let module = |at: usize| at.checked_sub(QUIET_ZONE).filter(|at| *at < code.size);
        module(row).zip(module(column)).is_some_and(|(row, column)| code[row].get(column).is_some_and(|module| module.value()))
    };
    let line = |row: usize| (0..side).map(|column| half_blocks(is_dark(row, column), is_dark(row + 1, column))).collect();
    Some((0..side).step_by(2).map(line).collect())
}

fn half_blocks(upper: bool, lower: bool) -> char {
    match (upper, lower) {
        (false, false) => ' ',
        (true, false) => '▀',
        (false, true) => '▄',
        (true, true) => '█',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "https://id.acme.test/device?user_code=WDJB-MJHT";

    fn decode(lines: &[String]) -> String {
        let rows: Vec<Vec<char>> = lines.iter().map(|line| line.chars().collect()).collect();
        let side = rows[0].len();
        let is_dark = |x: usize, y: usize| match rows.get(y / 2).map(|row| row[x]) {
            Some('█') => true,
            Some('▀') => y.is_multiple_of(2),
            Some('▄') => !y.is_multiple_of(2),
            _ => false,
        };
        const SCALE: usize = 4;
        let mut image = rqrr::PreparedImage::prepare_from_bitmap(side * SCALE, side * SCALE, |x, y| is_dark(x / SCALE, y / SCALE));
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    #[test]
    fn a_phone_reads_what_was_drawn() {
        for link in [LINK.to_owned(), format!("{LINK}&more={}", "x".repeat(500)), "https://a.test/Ü字".to_owned()] {
            assert_eq!(decode(&draw(&link, 500, 500).unwrap()), link);
        }
    }

    #[test]
    fn the_quiet_zone_is_four_modules_wide() {
        let lines = draw(LINK, 500, 500).unwrap();
        let quiet = |line: &String| line.trim().is_empty();
        assert!(lines[..2].iter().all(quiet) && !quiet(&lines[2]));
        assert!(lines.iter().all(|line| line.starts_with("    ") && line.ends_with("    ")));
        assert_eq!(lines[2].find('█'), Some(4), "a finder pattern begins right after it");
    }

    #[test]
    fn a_code_that_does_not_fit_is_not_drawn() {
        let lines = draw(LINK, 500, 500).unwrap();
        let (columns, rows) = (lines[0].chars().count(), lines.len());
        assert!(draw(LINK, columns, rows).is_some());
        assert!(draw(LINK, columns - 1, rows).is_none());
        assert!(draw(LINK, columns, rows - 1).is_none());
        assert!(draw(&"x".repeat(5000), 500, 500).is_none(), "more than a QR code can hold");
    }
}
