use super::check_out;
use crate::base::{Error, Result};
use crate::data::ingest::{holds_arrays, ingest};
use crate::data::pictures::Pictures;
use crate::data::png::{check_picture, write_grid};
use crate::data::{Info, Split, Store};
use crate::train::progress::bar;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::num::NonZero;
use std::path::{Path, PathBuf};

/// Make a data set store, or look into one
#[derive(Args)]
pub struct Data {
    #[command(subcommand)]
    verb: DataVerb,
}

#[derive(Subcommand)]
enum DataVerb {
    Ingest(Ingest),
    Info(StoreInfo),
}

/// Turn images or vectors into a store, which is written once and never changed
#[derive(Args)]
struct Ingest {
    /// An IDX file (gzipped or not), an .npy file of shape (M, C, H, W) or (M, d), of u8 also (M, H, W, C) or (M, H, W),
    /// a folder with one, or a folder of PNG and JPEG pictures, whose subfolders are the classes
    #[arg(long)]
    from: PathBuf,
    /// The labels, one for each row; X-labels.npy and X.labels.npy are found beside X.npy, X-labels-idx1-ubyte beside
    /// X-images-idx3-ubyte, and labels.npy beside images.npy, data.npy or the one array of a folder
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Cut squares of N pixels from the middle of pictures, scaled to fit as ADM does; without it all pictures must be of one size
    #[arg(long, value_name = "N", value_parser = super::count)]
    side: Option<NonZero<usize>>,
    /// The store to write
    #[arg(long)]
    out: PathBuf,
}

/// Show what a store holds
#[derive(Args)]
struct StoreInfo {
    store: PathBuf,
    /// Draw 64 rows, from the first to the last, whose classes ascend
    #[arg(long, value_name = "F.png")]
    picture: Option<PathBuf>,
    /// Print one JSON object, also with the rows that are held out of every training
    #[arg(long)]
    json: bool,
}

impl Data {
    pub fn run(self) -> Result<()> {
        match self.verb {
            DataVerb::Ingest(verb) => verb.run(),
            DataVerb::Info(verb) => verb.run(),
        }
    }
}

impl Ingest {
    fn run(self) -> Result<()> {
        check_out("--out", &self.out)?;
        let bar = bar(0, "{pos}/{len} rows  {eta} left");
        let progress = &mut |done, all| {
            if done % 256 == 0 || done == all {
                bar.set_length(all);
                bar.set_position(done);
            }
        };
        let info = match self.pictures()? {
            Some(pictures) => {
                let ingested = pictures.ingest(self.side.map(NonZero::get), &self.out, progress)?;
                ingested.left_out.iter().for_each(|what| bar.suspend(|| eprintln!("warning: left out: {what}")));
                ingested.info
            }
            None => ingest(&self.from, self.labels.as_deref(), &self.out, progress)?,
        };
        bar.finish_and_clear();
        print(&self.out, &info);
        if info.class_counts.is_empty() {
            println!(
                "no labels were given or found beside it: --labels takes them, and of pictures the subfolders are classes"
            );
        }
        info.warnings().iter().for_each(|what| eprintln!("warning: {what}"));
        Ok(())
    }
}

impl Ingest {
    /// The pictures, if it is a folder of them; flags that are for the other kind are refused.
    fn pictures(&self) -> Result<Option<Pictures>> {
        let folder = self.from.is_dir() && !holds_arrays(&self.from)?;
        let pictures = if folder { Pictures::find(&self.from)? } else { None };
        let refused = |what: &str| Err(Error::Usage(what.into()));
        match &pictures {
            Some(_) if self.labels.is_some() => {
                refused("--labels: the classes of pictures are the subfolders that they lie in; sort them into some")
            }
            None if self.side.is_some() => refused("--side: is for a folder of PNG and JPEG pictures; leave it out"),
            _ => Ok(pictures),
        }
    }
}

impl StoreInfo {
    fn run(self) -> Result<()> {
        let store = Store::open(&self.store)?;
        store.verify()?;
        if let Some(picture) = &self.picture {
            draw(&store, picture)?;
        }
        if self.json {
            let shown = Shown { info: store.info(), held_out: Split::of(store.rows()).held_out };
            println!("{}", serde_json::to_string(&shown).expect("an info has no map with other keys than strings"));
        } else {
            print(&self.store, store.info());
        }
        Ok(())
    }
}

/// What a store holds, for programs.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    info: &'a Info,
    /// The rows that no run trains on.
    held_out: Vec<u32>,
}

fn draw(store: &Store, path: &Path) -> Result<()> {
    if path.extension().is_none_or(|ending| ending != "png") {
        return Err(Error::Usage(format!("--picture {}: name a .png file", path.display())));
    }
    check_out("--picture", path)?;
    let [channels, height, width] = store.shape();
    check_picture(path, channels)?;
    let (all, most) = (u64::from(store.rows()), 64);
    let count = all.min(most);
    let rows: Vec<u32> = (0..count).map(|i| (i * all / count) as u32).collect();
    let mut values = vec![0.0; rows.len() * store.width()];
    store.read(&rows, &mut values)?;
    write_grid(path, &values, [rows.len(), channels, height, width])
}

fn print(path: &Path, info: &Info) {
    let [channels, height, width] = info.shape;
    println!("{}", path.display());
    println!("  rows     {} of {channels} x {height} x {width}, {:?}", info.rows, info.dtype);
    if !info.class_counts.is_empty() {
        println!("  classes  {}, {} each", info.class_counts.len(), span(&info.class_counts));
        let names = info.class_names.iter().enumerate().take(16).map(|(class, name)| format!("{class} {name}"));
        let names = names.collect::<Vec<_>>().join(", ");
        if !names.is_empty() {
            println!("           {names}{}", if info.class_names.len() > 16 { " ..." } else { "" });
        }
    }
    for (name, values) in [("mean", &info.mean), ("std", &info.std), ("min", &info.min), ("max", &info.max)] {
        // A flat row has as many channels as elements: the first few tell enough.
        let shown: Vec<String> = values.iter().take(4).map(|x| format!("{x:.4}")).collect();
        println!("  {name:<8} {}{}", shown.join(" "), if values.len() > 4 { " ..." } else { "" });
    }
    println!("  digest   {}", info.digest);
    println!("  from     {}", info.provenance);
}

/// How many rows the classes have, from the fewest to the most.
fn span(counts: &[u32]) -> String {
    let (least, most) = (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
    let rows = if *most == 1 { "row" } else { "rows" };
    if least == most { format!("{most} {rows}") } else { format!("{least} to {most} {rows}") }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn a_span_of_one_number_is_that_number() {
        for (counts, expected) in
            [(&[1000, 1000][..], "1000 rows"), (&[1, 1], "1 row"), (&[3, 0, 7], "0 to 7 rows"), (&[0, 1], "0 to 1 row")]
        {
            assert_eq!(span(counts), expected);
        }
    }
}
