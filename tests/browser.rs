//! The pages in a real browser, Chromium, against the built binary's demo. `tests/browser/pages.mjs` says what people do.
#![cfg(feature = "demo")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Ends with the test, however that ends.
struct Demo {
    process: Child,
    tv: String,
    provider: String,
}

#[test]
fn people_sign_in_with_a_real_browser() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(in_path);
    let (Some(node), Some(chromium)) = (in_path("node"), chromium) else {
        return skip("node and chromium must be installed (Debian: apt-get install nodejs chromium)");
    };
    if !folder.join("node_modules/playwright-core").exists() {
        return skip("npm ci --prefix tests/browser has not been run");
    }
    let demo = Demo::start();
    let done = Command::new(node)
        // For all scenarios together, each of which has time limits of its own: only against one that hangs.
        .args(["--test", "--test-reporter=spec", "--test-timeout=300000"])
        .arg(folder.join("pages.mjs"))
        .env("TV", &demo.tv)
        .env("PROVIDER", &demo.provider)
        .env("CHROMIUM", chromium)
        .env("ARTEFACTS", Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/artefacts/pages"))
        .output()
        .expect("node runs");
    let report = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{report}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(report.contains("fail 0") && !report.contains("tests 0"), "{report}");
}

impl Demo {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom"));
        command.args(["demo", "--port", "0", "--provider-port", "0"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the binary runs");
        let lines = BufReader::new(process.stderr.take().expect("its words")).lines();
        let mut urls = lines.map_while(Result::ok).filter_map(|line| {
            let (_, rest) = line.split_once("http://")?;
            Some(format!("http://{}", rest.split([' ', '/']).next()?))
        });
        let (tv, provider) = (urls.next().expect("the TV's address"), urls.next().expect("the provider's address"));
        Self { process, tv, provider }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn skip(why: &str) {
    assert!(std::env::var("ANTEROOM_TEST_REQUIRE").as_deref() != Ok("all"), "{why}");
    eprintln!("SKIPPED: {why}");
}
