//! What the bare programs share: a runtime, and an end when their parent ends.

use std::io::Read;

use super::Outcome;

/// Serves until standard input ends, which it does when the driver goes, however it goes.
pub(crate) fn run(serving: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    std::thread::spawn(|| {
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(i32::from(ended.is_err()));
    });
    actix_web::rt::System::new().block_on(serving)
}
