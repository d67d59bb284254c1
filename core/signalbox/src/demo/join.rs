//! An account for a real phone, with a QR code.

use qrcode::QrCode;
use qrcode::types::Color;

/// Lines that tell how to join from a phone at `advertise`, with a code that softphones read.
pub fn invitation(advertise: &str, user: &str, domain: &str, password: &str) -> Vec<String> {
    let mut lines = vec![
        "Join with a real phone or softphone:".to_owned(),
        format!("  user {user}   domain {domain}   password {password}"),
        format!("  outbound proxy {advertise} (UDP); call 600 for an echo, 401 for a phone of the demo"),
    ];
    let uri = format!("sip:{user}:{password}@{domain};transport=udp?proxy={advertise}");
    if let Ok(code) = QrCode::new(uri) {
        lines.extend(draw(&code));
    }
    lines
}

/// Two rows of modules a line of text, with a quiet zone of two modules around.
fn draw(code: &QrCode) -> Vec<String> {
    const QUIET: usize = 2;
    let size = code.width();
    let colors = code.to_colors();
    let dark = |x: usize, y: usize| {
        let inside = (QUIET..size + QUIET).contains(&x) && (QUIET..size + QUIET).contains(&y);
        inside && colors[(y - QUIET) * size + (x - QUIET)] == Color::Dark
    };
    (0..size + 2 * QUIET)
        .step_by(2)
        .map(|y| {
            (0..size + 2 * QUIET)
                .map(|x| match (dark(x, y), dark(x, y + 1)) {
                    (true, true) => ' ',
                    (true, false) => '▄',
                    (false, true) => '▀',
                    (false, false) => '█',
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_invitation_has_a_code_as_wide_as_high() {
        let lines = invitation("192.0.2.1:5060", "499", "acme.test", "secret");
        let code = &lines[3..];
        let width = code[0].chars().count();
        assert!(width > 20 && code.iter().all(|l| l.chars().count() == width));
        assert_eq!(code.len(), width.div_ceil(2));
    }
}
