//! Colours, or none of them.

use ratatui::style::{Color, Modifier, Style};

/// What something says by its look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// Nothing to look at.
    Dim,
    Title,
    Good,
    Warn,
    Bad,
    /// The line under the cursor.
    Chosen,
}

/// How tones look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    has_colours: bool,
}

impl Theme {
    /// Without colours where the environment says so: `no_color` is the value of NO_COLOR (no-color.org).
    pub(super) fn new(no_color: Option<&std::ffi::OsStr>) -> Self {
        Self {
            has_colours: no_color.is_none_or(std::ffi::OsStr::is_empty),
        }
    }

    pub(super) fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        let colour = |colour| match self.has_colours {
            true => style.fg(colour),
            false => style,
        };
        match tone {
            Tone::Plain => style,
            Tone::Dim => style.add_modifier(Modifier::DIM),
            Tone::Title => colour(Color::Cyan).add_modifier(Modifier::BOLD),
            Tone::Good => colour(Color::Green),
            Tone::Warn => colour(Color::Yellow).add_modifier(Modifier::UNDERLINED),
            Tone::Bad => colour(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Chosen => style.add_modifier(Modifier::REVERSED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_what_matters_still_stands_out() {
        let plain = Theme::new(Some("1".as_ref()));
        for tone in [Tone::Title, Tone::Good, Tone::Warn, Tone::Bad, Tone::Chosen] {
            assert_eq!(plain.style(tone).fg, None, "{tone:?}");
        }
        assert_ne!(plain.style(Tone::Bad), plain.style(Tone::Plain));
        let colourful = Theme::new(Some("".as_ref()));
        assert_eq!(colourful.style(Tone::Bad).fg, Some(Color::Red));
        assert!(Theme::new(None).style(Tone::Good).fg.is_some());
    }
}
