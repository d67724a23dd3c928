//! Where the tokens go.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;

use crate::folder;
use crate::process::{Demo, Program, anteroom, login};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_for_its_owner_from_the_first_moment() {
    let demo = Demo::start();
    let folder = folder();
    let file = folder.join("tokens.json");
    fs::write(&file, "an older sign-in").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();

    // The most permissive umask there is.
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "umask 0; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_anteroom"), "login", "--url", &demo.url(), "--output"])
        .arg(&file);
    let mut login = Program::start(command);
    let code = login.stderr.after("enter the code ");
    assert_eq!(fs::read_to_string(&file).unwrap(), "an older sign-in");
    let waiting = names(&folder);
    assert_eq!(waiting.len(), 2);
    assert_eq!(mode(&folder.join(&waiting[0])), 0o600, "{waiting:?}");
    demo.press("approve", &code).await;

    assert_eq!(login.exit(), Some(0));
    assert_eq!((names(&folder).as_slice(), mode(&file)), (&["tokens.json".to_owned()][..], 0o600));
    let tokens: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert!(tokens["access_token"].is_string());
    assert_eq!(login.stdout.complete(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_fails_leaves_the_file_as_it_was() {
    let demo = Demo::start();
    let folder = folder();
    let file = folder.join("tokens.json");
    let start = || {
        let mut command = login(&demo.url(), "--output");
        command.arg(&file);
        Program::start(command)
    };
    let mut login = start();
    demo.press("deny", &login.stderr.after("enter the code ")).await;
    assert_eq!(login.exit(), Some(1));
    assert_eq!(names(&folder), [""; 0]);

    fs::write(&file, "an older sign-in").unwrap();
    let mut login = start();
    login.stderr.wait_for("enter the code ");
    login.send("-INT");
    assert_eq!(login.exit(), Some(1));
    assert_eq!(names(&folder), ["tokens.json"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "an older sign-in");
}

#[test]
fn a_place_where_no_file_can_be_is_noticed_before_the_sign_in() {
    let folder = folder();
    symlink(folder.join("nothing"), folder.join("link")).unwrap();
    for output in ["/dev/null".as_ref(), &*folder, &folder.join("link"), &folder.join("no/tokens"), "/proc/tokens".as_ref(), "..".as_ref()]
    {
        let mut command = anteroom();
        command.args(["login", "--url", "http://127.0.0.1:1", "--output"]).arg(output);
        let mut login = Program::start(command);
        assert_eq!(login.exit(), Some(2), "{}", output.display());
        assert!(login.stderr.complete().starts_with("--output "), "{}", login.stderr.complete());
    }
    assert_eq!(names(&folder), ["link"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_cannot_be_written_are_not_called_a_sign_in() {
    if !Path::new("/dev/full").exists() {
        eprintln!("SKIPPED: there is no /dev/full here");
        return;
    }
    let demo = Demo::start();
    let mut command = login(&demo.url(), "--json");
    command.stdout(File::create("/dev/full").unwrap());
    let mut login = Program::start_with_stdout_as_it_is(command);
    let code = login.stderr.event("code");
    demo.press("approve", code["user_code"].as_str().unwrap()).await;
    assert_eq!(login.exit(), Some(1));
    assert_eq!(login.stderr.event("end")["reason"], "undelivered");
    assert!(!login.stderr.complete().contains("access_token"));
}
