//! Writes the seeds of every fuzz target into a directory of its own: `seeds <directory>`.

use signalbox_torture::targets::ALL;
use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let Some(top) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: seeds <directory>"));
    };
    for target in ALL {
        let directory = top.join(target.name);
        fs::create_dir_all(&directory)?;
        for (n, bytes) in (target.seeds)().iter().enumerate() {
            fs::write(directory.join(format!("seed-{n:03}")), bytes)?;
        }
    }
    Ok(())
}
