//! Where settings come from: built in, a TOML file, the environment, flags. The later wins. Knows no types:
//! values are still text here, `ServerConfig` makes sense of them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::settings::{Arity, SETTINGS, Setting, suggestion};

/// The file that is read when no other is named and it exists.
pub(crate) const DEFAULT_FILE: &str = "/etc/warren/warren.toml";
/// A configuration file larger than this is no configuration file.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
/// Variables that begin with `WARREN_` and are no settings of the server.
const OTHER_VARIABLES: &[&str] =
    &["WARREN_CONFIG", "WARREN_NODE", "WARREN_USER", "WARREN_OUTPUT", "WARREN_CA"];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said anything.
    BuiltIn,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// The command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// Something wrong in the configuration, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Where it is.
    pub(crate) origin: Origin,
    /// What is wrong and what would be right.
    pub(crate) text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::BuiltIn => f.write_str(&self.text),
            origin @ (Origin::File { .. } | Origin::Variable(_) | Origin::Flag(_)) => {
                write!(f, "{origin}: {}", self.text)
            }
        }
    }
}

/// A setting's text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// The values; exactly one for a setting of [`Arity::One`].
    pub(crate) values: Vec<String>,
    /// Where they came from.
    pub(crate) origin: Origin,
}

/// What was given on the command line: the values of each setting's flag.
pub(crate) type Flags = BTreeMap<&'static str, Vec<String>>;

/// What is outside: tests hand in a small one.
pub(crate) struct Surroundings<'a> {
    /// All environment variables that are UTF-8.
    pub(crate) variables: &'a BTreeMap<String, String>,
    /// The file that is read when none is named, if it exists.
    pub(crate) default_file: &'a Path,
}

/// All given values, by key, and what was wrong with the sources themselves.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// The winning value of each setting that somebody gave.
    pub(crate) given: BTreeMap<&'static str, Given>,
    /// Unreadable files, unknown keys, wrong types.
    pub(crate) mistakes: Vec<Mistake>,
    /// Things that are probably not meant, but harmless.
    pub(crate) warnings: Vec<String>,
    /// The file that was read, if any.
    pub(crate) file: Option<PathBuf>,
}

impl Gathered {
    /// Reads every source. `config` is the file named by `--config`.
    pub(crate) fn read(config: Option<&Path>, flags: &Flags, around: &Surroundings<'_>) -> Self {
        let mut gathered = Self::default();
        gathered.read_file(config, around);
        gathered.read_variables(around);
        for setting in SETTINGS {
            if let Some(values) = flags.get(setting.key) {
                gathered.put(setting, values.clone(), Origin::Flag(setting.flag()));
            }
        }
        gathered
    }

    fn read_file(&mut self, config: Option<&Path>, around: &Surroundings<'_>) {
        let named = config.map(Path::to_path_buf).or_else(|| {
            around.variables.get("WARREN_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
        });
        let path = match named {
            Some(path) => path,
            None if around.default_file.exists() => around.default_file.to_path_buf(),
            None => return,
        };
        let text = match read_text(&path) {
            Ok(text) => text,
            Err(reason) => {
                return self.mistake(Origin::BuiltIn, format!("cannot read {}: {reason}", path.display()));
            }
        };
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in errors {
            let line = error.span().map_or(1, |span| line_of(&text, span.start));
            self.mistake(Origin::File { path: path.clone(), line }, format!("not TOML: {}", error.message()));
        }
        for (key, value) in table.get_ref() {
            let origin = Origin::File { path: path.clone(), line: line_of(&text, key.span().start) };
            let Some(setting) = Setting::find(key.get_ref()) else {
                let names = SETTINGS.iter().map(|setting| setting.key);
                self.mistake(origin, unknown("key", key.get_ref(), suggestion(key.get_ref(), names)));
                continue;
            };
            match values_of(setting, value.get_ref()) {
                Ok(values) => self.put(setting, values, origin),
                Err(text) => self.mistake(origin, format!("{}: {text}", setting.key)),
            }
        }
        self.file = Some(path);
    }

    fn read_variables(&mut self, around: &Surroundings<'_>) {
        for setting in SETTINGS {
            let own = setting.variable();
            for name in setting.alias.into_iter().chain([own.as_str()]) {
                if let Some(text) = around.variables.get(name) {
                    self.put(setting, split(setting, text), Origin::Variable(name.to_owned()));
                }
                let file_name = format!("{name}_FILE");
                // A setting of its own has that name: the node itself reads the file, again and again.
                if SETTINGS.iter().any(|other| other.variable() == file_name) {
                    continue;
                }
                let Some(path) = around.variables.get(&file_name) else { continue };
                match read_text(Path::new(path)) {
                    Ok(text) => {
                        let text = text.trim_end_matches(['\r', '\n']);
                        self.put(setting, split(setting, text), Origin::Variable(file_name));
                    }
                    Err(reason) => {
                        self.mistake(Origin::Variable(file_name), format!("cannot read {path}: {reason}"))
                    }
                }
            }
        }
        let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
        for name in around.variables.keys().filter(|name| name.starts_with("WARREN_")) {
            let base = name.strip_suffix("_FILE").unwrap_or(name);
            if known.iter().any(|variable| variable == base) || OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            // Not a mistake: an orchestrator may set WARREN_SERVICE_HOST and the like for a service of that name.
            if let Some(meant) = suggestion(name, known.iter().map(String::as_str)) {
                self.warnings
                    .push(format!("the variable {name} is not known and ignored; did you mean {meant}?"));
            }
        }
    }

    fn put(&mut self, setting: &'static Setting, values: Vec<String>, origin: Origin) {
        let values = match setting.arity {
            Arity::Many => values.iter().flat_map(|value| split(setting, value)).collect(),
            Arity::One => values,
        };
        self.given.insert(setting.key, Given { values, origin });
    }

    fn mistake(&mut self, origin: Origin, text: String) {
        self.mistakes.push(Mistake { origin, text });
    }
}

/// "unknown key ..." with what was probably meant.
pub(crate) fn unknown(what: &str, name: &str, meant: Option<&str>) -> String {
    match meant {
        Some(meant) => format!("unknown {what} {name:?}, did you mean {meant:?}?"),
        None => format!("unknown {what} {name:?}; `warren server --help` lists them all"),
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_MAX_BYTES {
        return Err(format!("{size} bytes are more than a configuration's {FILE_MAX_BYTES}"));
    }
    fs::read_to_string(path).map_err(|error| error.to_string())
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The parts of a list in one string: commas between them, blanks around them, no empty ones.
fn split(setting: &Setting, text: &str) -> Vec<String> {
    match setting.arity {
        Arity::One => vec![text.to_owned()],
        Arity::Many => {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
    }
}

/// A TOML value as text. Numbers, truth values and strings are all fine where one value is expected: what they
/// mean is decided by the setting, as for a variable.
fn values_of(setting: &Setting, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    if let (Arity::Many, DeValue::Array(items)) = (setting.arity, value) {
        return items.iter().map(|item| text_of(item.get_ref())).collect();
    }
    Ok(vec![text_of(value)?])
}

fn text_of(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| format!("{} is out of range", number.as_str())),
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            Err(format!("cannot be of type {}", value.type_str()))
        }
    }
}
