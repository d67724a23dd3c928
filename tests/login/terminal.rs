//! The picture, in a real terminal: tmux has one, and tells what is on its screen.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::process::Demo;
use crate::{SOON, folder};

/// A tmux server of its own, with one window.
struct Terminal {
    folder: PathBuf,
}

impl Terminal {
    /// `None` where tmux is missing; with `ANTEROOM_TEST_REQUIRE=all` that is a failure.
    fn start(columns: u32, rows: u32, options: &str, url: &str) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            assert!(std::env::var("ANTEROOM_TEST_REQUIRE").as_deref() != Ok("all"), "tmux is missing");
            eprintln!("SKIPPED: tmux is not installed");
            return None;
        }
        let terminal = Self { folder: folder() };
        let tokens = terminal.folder.join("tokens");
        let binary = env!("CARGO_BIN_EXE_anteroom");
        // cat keeps the window open, so that its last words can be read.
        let line = format!("{binary} login --url {url} {options} > {}; echo \"exit status $?\"; cat", tokens.display());
        let size = ["-x", &columns.to_string(), "-y", &rows.to_string()].map(str::to_owned);
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", &size[0], &size[1], &size[2], &size[3], &line]);
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.folder.join("tmux");
        let output = Command::new("tmux").arg("-u").arg("-S").arg(socket).args(arguments).env_remove("TMUX").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The screen, as soon as it has all of this.
    fn wait_for(&self, parts: &[&str]) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let screen = self.screen();
            if parts.iter().all(|part| screen.contains(part)) {
                return screen;
            }
            assert!(Instant::now() < deadline, "no {parts:?} on:\n{screen}");
        }
    }

    fn tokens(&self) -> String {
        std::fs::read_to_string(self.folder.join("tokens")).unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        _ = Command::new("tmux").arg("-S").arg(self.folder.join("tmux")).arg("kill-server").output();
    }
}

fn after<'a>(screen: &'a str, before: &str) -> &'a str {
    screen.split_once(before).and_then(|(_, rest)| rest.split_whitespace().next()).unwrap()
}

/// The minutes and seconds in the line that lives.
fn countdown(screen: &str) -> u32 {
    let line = screen.lines().find(|line| line.contains("Waiting for you")).unwrap();
    let (minutes, seconds) = line.split_whitespace().nth(1).unwrap().split_once(':').unwrap();
    minutes.parse::<u32>().unwrap() * 60 + seconds.parse::<u32>().unwrap()
}

/// What a phone reads from the half blocks on the screen.
fn scan(screen: &str) -> String {
    const SCALE: usize = 4;
    let rows: Vec<Vec<char>> = screen.lines().map(|line| line.chars().collect()).collect();
    let is_dark = |x: usize, y: usize| match rows.get(y / 2).and_then(|row| row.get(x)) {
        Some('█') => true,
        Some('▀') => y.is_multiple_of(2),
        Some('▄') => !y.is_multiple_of(2),
        _ => false,
    };
    let columns = rows.iter().map(Vec::len).max().unwrap();
    let (width, height) = (columns * SCALE, rows.len() * 2 * SCALE);
    let mut image = rqrr::PreparedImage::prepare_from_bitmap(width, height, |x, y| is_dark(x / SCALE, y / SCALE));
    image.detect_grids()[0].decode().unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_the_code_a_qr_code_and_the_time_left() {
    let demo = Demo::start();
    let Some(terminal) = Terminal::start(100, 50, "", &demo.url()) else { return };
    let screen = terminal.wait_for(&["Sign in with demo", "Open   http://", "Enter  ", "Waiting for you ..."]);
    let code = after(&screen, "Enter  ");
    assert_eq!(scan(&screen), format!("{}?user_code={code}", after(&screen, "Open   ")));
    let at_first = countdown(&screen);
    assert!((540..=600).contains(&at_first), "{at_first}");
    let deadline = Instant::now() + SOON;
    while countdown(&terminal.screen()) >= at_first {
        assert!(Instant::now() < deadline, "the countdown stands still");
    }
    let coloured = terminal.tmux(&["capture-pane", "-p", "-e"]);
    assert!(coloured.contains("38;5;16") && coloured.contains("48;5;231"), "black on white, whatever the theme");

    demo.press("reset", code).await;
    terminal.wait_for(&["The provider cannot be reached at the moment; still trying ..."]);
    demo.press("up", code).await;
    demo.press("approve", code).await;
    let screen = terminal.wait_for(&["✓ Signed in.", "exit status 0"]);
    assert!(!screen.contains("Waiting for you"), "the line that lives is gone:\n{screen}");
    assert!(serde_json::from_str::<serde_json::Value>(&terminal.tokens()).unwrap()["access_token"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qr_code_that_does_not_fit_or_is_not_wanted_is_left_out() {
    let demo = Demo::start();
    for (columns, rows, options) in [(100, 24, ""), (30, 60, ""), (100, 50, "--no-qr")] {
        let Some(terminal) = Terminal::start(columns, rows, options, &demo.url()) else { return };
        let screen = terminal.wait_for(&["Enter  ", "Waiting for you"]);
        assert!(!screen.contains(['█', '▀', '▄']), "{screen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_cancels_and_leaves_the_terminal_tidy() {
    let demo = Demo::start();
    let Some(terminal) = Terminal::start(100, 50, "", &demo.url()) else { return };
    terminal.wait_for(&["Waiting for you"]);
    terminal.tmux(&["send-keys", "C-c"]);
    let screen = terminal.wait_for(&["✗ Cancelled.", "exit status 1"]);
    assert!(!screen.contains("Waiting for you"), "{screen}");
    assert_eq!(terminal.tmux(&["display-message", "-p", "#{cursor_flag}"]), "1\n", "the cursor can be seen");
    assert_eq!(terminal.tokens(), "");
}
