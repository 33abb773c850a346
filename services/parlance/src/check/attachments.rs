//! Whether the store of attachments does what it must.

use parlance_message::attachment::Place;

use super::{Found, Report};
use crate::Failure;
use crate::failure::chain;
use crate::services::{Part, blobs};
use crate::settings::Config;

/// Writes, reads and removes one object, and makes no folder.
pub(super) async fn look(part: Part, config: &Config, report: &mut Report) -> Result<(), Failure> {
    let used = matches!(part, Part::Whole | Part::Message);
    let Some(place) = config.attachments.as_ref().filter(|_| used) else { return Ok(()) };
    if let Place::Folder(folder) = place
        && !folder.exists()
    {
        let folder = folder.display();
        let sentence = format_args!(
            "the folder of attachments {folder} is not there: the first start makes it"
        );
        return report.say(Found::Well, sentence);
    }
    let blobs = match blobs(config) {
        Ok(Some(blobs)) => blobs,
        Ok(None) => return Ok(()),
        Err(failure) => return report.say(Found::Wrong, failure),
    };
    match blobs.try_out().await {
        Ok(()) => {
            let sentence = format_args!("attachments are written, read and removed in {place}");
            report.say(Found::Well, sentence)
        }
        Err(error) => {
            report.say(Found::Wrong, format_args!("attachments in {place}: {}", chain(&error)))
        }
    }
}
