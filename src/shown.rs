//! What strangers wrote and people are shown: everything in it can be seen, and nothing hides or piles up over what stands beside it.

use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, Emoji, EmojiModifier, ExtendedPictographic, GeneralCategory, JoiningType, Script,
    UnifiedIdeograph, VariationSelector,
};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Tibetan and Burmese words have up to four on one letter, other scripts two or three.
const MOST_MARKS: usize = 4;

const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';

enum Kind {
    Visible,
    Space,
    /// Is drawn on the letter before it.
    Mark,
    /// Changes how its neighbours are drawn, and nothing where it is not needed for that.
    Joiner,
    Selector,
    Hidden,
}

fn kind(c: char) -> Kind {
    if matches!(c, ZERO_WIDTH_NON_JOINER | ZERO_WIDTH_JOINER) {
        return Kind::Joiner;
    }
    if CodePointSetData::new::<VariationSelector>().contains(c) {
        return Kind::Selector;
    }
    if is_blank(c) || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c) {
        return Kind::Hidden;
    }
    match CodePointMapData::<GeneralCategory>::new().get(c) {
        GeneralCategory::Control
        | GeneralCategory::Format
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator
        | GeneralCategory::PrivateUse
        | GeneralCategory::Surrogate
        | GeneralCategory::Unassigned => Kind::Hidden,
        GeneralCategory::SpaceSeparator => Kind::Space,
        GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark => Kind::Mark,
        _ => Kind::Visible,
    }
}

/// By its category a letter or a symbol, yet drawn as nothing: an empty braille cell, a hieroglyph's gap, a note without a head, a
/// filler, the place of an object.
fn is_blank(c: char) -> bool {
    matches!(c, '\u{2800}' | '\u{fffc}' | '\u{13441}' | '\u{13442}' | '\u{16fe4}' | '\u{1d159}')
}

/// True where each character can be seen for itself, or is a plain space, and not all are spaces.
pub fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c == ' ' || matches!(kind(c), Kind::Visible)) && !text.trim().is_empty()
}

/// True for writing in any script: marks have a letter under them and joiners and variation selectors something to act on, and there
/// is something to see.
pub fn is_clear(text: &str) -> bool {
    let mut is_visible = false;
    // How many marks the letter has on which the next would be drawn; none without a letter.
    let mut marks = None;
    for (at, c) in text.char_indices() {
        let before = text.get(..at).unwrap_or_default();
        let after = text.get(at + c.len_utf8()..).unwrap_or_default();
        let is_fit = match kind(c) {
            Kind::Visible => {
                is_visible = true;
                marks = Some(0);
                true
            }
            Kind::Space => {
                marks = None;
                true
            }
            Kind::Mark => {
                marks = marks.map(|count: usize| count + 1);
                marks.is_some_and(|count| count <= MOST_MARKS)
            }
            Kind::Joiner => joins(c, before, after),
            Kind::Selector => selects(c, before, after),
            Kind::Hidden => false,
        };
        if !is_fit {
            return false;
        }
    }
    is_visible
}

/// An emoji made of several, or where RFC 5892, Appendix A.1 and A.2, has a use for a joiner: at a virama, and between letters that
/// would be written joined. Bengali has it before the virama too, and Persian habit after a letter that joins nothing on its left.
fn joins(joiner: char, before: &str, after: &str) -> bool {
    let is_virama = |c: char| CodePointMapData::<CanonicalCombiningClass>::new().get(c) == CanonicalCombiningClass::Virama;
    let joining = |c: char| CodePointMapData::<JoiningType>::new().get(c);
    let (Some(previous), next) = (before.chars().next_back(), after.chars().next()) else { return false };
    if is_virama(previous) || next.is_some_and(is_virama) {
        return true;
    }
    let Some(next) = next else { return false };
    if joiner == ZERO_WIDTH_JOINER {
        let is_dress = |c: &char| *c == '\u{fe0f}' || CodePointSetData::new::<EmojiModifier>().contains(*c);
        return is_pictograph(next) && before.chars().rev().find(|c| !is_dress(c)).is_some_and(is_pictograph);
    }
    let letter = before.chars().rev().map(joining).find(|kind| *kind != JoiningType::Transparent);
    let is_letter = |kind| matches!(kind, JoiningType::DualJoining | JoiningType::LeftJoining | JoiningType::RightJoining);
    letter.is_some_and(is_letter) && matches!(joining(next), JoiningType::DualJoining | JoiningType::RightJoining)
}

fn is_pictograph(c: char) -> bool {
    CodePointSetData::new::<ExtendedPictographic>().contains(c)
}

/// One selector, right after what has variants: an emoji, an ideograph, a Mongolian letter.
fn selects(selector: char, before: &str, after: &str) -> bool {
    let Some(base) = before.chars().next_back() else { return false };
    match selector {
        // Digits have variants only as keys.
        '\u{fe0e}' | '\u{fe0f}' if base.is_ascii() => is_emoji(base) && after.starts_with('\u{20e3}'),
        '\u{fe0e}' | '\u{fe0f}' => is_emoji(base),
        '\u{fe00}'..='\u{fe02}' | '\u{e0100}'..='\u{e01ef}' => CodePointSetData::new::<UnifiedIdeograph>().contains(base),
        '\u{180b}'..='\u{180f}' => CodePointMapData::<Script>::new().get(base) == Script::Mongolian,
        _ => false,
    }
}

fn is_emoji(c: char) -> bool {
    CodePointSetData::new::<Emoji>().contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_in_every_script_is_clear() {
        let texts = [
            "Living-room TV",
            "TV : salon\u{a0}2",
            "居間のテレビ",
            "葛\u{e0100}城のTV",
            "\u{30db}\u{3099}", // decomposed
            "Phòng khách",
            "Pho\u{300}ng kha\u{301}ch ti\u{302}\u{301}ng Vie\u{323}\u{302}t",
            "ที่ห้องน้ำ",
            "תֵּבָה שָׁלוֹם",
            "تلفزيون الصَّالة",
            "تلویزیون خانه\u{200c}ها می\u{200c}خواهم کار\u{200c}ها",
            "बैठक का टीवी क्\u{200d}ष",
            "র\u{200d}্যাম",
            "ക\u{d4d}\u{200d}", // a joiner at the end, after a virama
            "මහනුවර ශ්\u{200d}රී",
            "မြို့ လျှို့ဝှက်",
            "བརྒྱུད་ བསྒྲུབས",
            "ភាសាខ្មែរ",
            "ᠮᠣᠩᠭᠣᠯ\u{180b}",
            "거실 티비",
            "\u{1100}\u{1161}\u{11a8}",
            "📺",
            "👩🏽\u{200d}🚀 👨\u{200d}👩\u{200d}👧 🏳\u{fe0f}\u{200d}🌈 ❤\u{fe0f}\u{200d}🔥 🇫🇷",
            "TV 1\u{fe0f}\u{20e3} ❤\u{fe0f} ☎\u{fe0e}",
        ];
        for text in texts {
            assert!(is_clear(text), "{text}");
        }
    }

    #[test]
    fn what_hides_is_not_clear() {
        for hidden in [
            '\0',
            '\t',
            '\n',
            '\u{7f}',
            '\u{85}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180e}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2063}',
            '\u{2066}',
            '\u{2069}',
            '\u{206a}',
            '\u{2800}',
            '\u{3164}',
            '\u{378}',
            '\u{e000}',
            '\u{fdd0}',
            '\u{fe00}',
            '\u{fe0e}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{fffa}',
            '\u{fffb}',
            '\u{fffc}',
            '\u{ffff}',
            '\u{13441}',
            '\u{1d159}',
            '\u{1d173}',
            '\u{1bca0}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e007f}',
            '\u{e0100}',
            '\u{e01ef}',
            '\u{f0000}',
            '\u{10ffff}',
        ] {
            for text in [format!("T{hidden}V"), format!("{hidden}TV"), format!("TV{hidden}"), format!("TV {hidden} 2"), hidden.into()] {
                assert!(!is_clear(&text), "{text:?}");
                assert!(!is_plain(&text), "{text:?}");
            }
        }
    }

    #[test]
    fn selectors_and_joiners_carry_nothing_along() {
        for text in [
            "📺\u{fe0f}\u{fe0f}",
            "📺\u{fe0f}\u{e0100}",
            "📺\u{e0100}",
            "葛\u{e0100}\u{e0101}",
            "1\u{fe0f}2",
            "T\u{fe0f}\u{20e3}",
            "📺\u{200d}",
            "📺\u{200d}TV",
            "\u{200d}📺",
            "📺\u{200d}\u{200d}📺",
            "📺\u{200c}📺",
            "1\u{200d}📺",
            "ही\u{200d}टी",
            "می\u{200c}\u{200c}خواهم",
            "می\u{200c}",
            "🏴\u{e0067}\u{e0062}\u{e007f}",
        ] {
            assert!(!is_clear(text), "{text:?}");
        }
    }

    #[test]
    fn marks_stand_on_a_letter_and_are_few() {
        for mark in ['\u{301}', '\u{338}', '\u{489}', '\u{20e3}', '\u{e47}', '\u{64b}', '\u{1ab0}'] {
            let on_a_letter = |count| format!("T{}V", mark.to_string().repeat(count));
            assert!(is_clear(&on_a_letter(MOST_MARKS)), "{mark:?}");
            assert!(!is_clear(&on_a_letter(MOST_MARKS + 1)), "{mark:?}");
            assert!(!is_clear(&format!("{mark}TV")) && !is_clear(&format!("TV {mark}")), "{mark:?}");
        }
    }

    #[test]
    fn nothing_to_see_is_not_clear() {
        for text in ["", " ", "   ", "\u{a0}", "\u{3000}", "\u{2003}\u{200a}", "\u{301}"] {
            assert!(!is_clear(text) && !is_plain(text), "{text:?}");
        }
    }
}
