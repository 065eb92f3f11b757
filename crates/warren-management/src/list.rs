//! What a client may ask of a listing: one page of it, a name filter, an order, and only some columns.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};
use warren_broker::admin::Pattern;

use crate::error::ApiError;

const PAGE_SIZE_DEFAULT: usize = 100;
const PAGE_SIZE_MAX: usize = 500;
const NAME_MAX_BYTES: usize = 1024;

/// The parameters of a listing.
#[derive(Debug, Default)]
pub(crate) struct ListQuery {
    page: Option<usize>,
    page_size: usize,
    name: Option<NameFilter>,
    sort: Option<String>,
    reverse: bool,
    columns: Vec<String>,
}

#[derive(Debug)]
enum NameFilter {
    Contains(String),
    Matches(Box<Pattern>),
}

impl ListQuery {
    /// Reads the parameters; unknown ones are ignored, as clients send many.
    ///
    /// # Errors
    /// 400 for a page that cannot be or a pattern that does not compile.
    pub(crate) fn read(pairs: &[(String, String)]) -> Result<Self, ApiError> {
        let get = |key: &str| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        let bad = || ApiError::BadRequest("Pagination parameters are invalid".to_owned());
        let number = |key: &str| get(key).map(|text| text.parse::<i64>().map_err(|_| bad())).transpose();
        let (page, size) = (number("page")?, number("page_size")?);
        let positive = |number: i64| usize::try_from(number).ok().filter(|number| *number > 0);
        let page_size = size.map_or(Some(PAGE_SIZE_DEFAULT), positive).filter(|size| *size <= PAGE_SIZE_MAX);
        let (page, page_size) = match (page, page.and_then(positive), page_size) {
            (None, _, _) => (None, PAGE_SIZE_DEFAULT),
            (Some(_), Some(page), Some(page_size)) => (Some(page), page_size),
            (Some(page), None, _) | (Some(page), Some(_), None) => {
                let size = size.map_or("undefined".to_owned(), |size| size.to_string());
                let reason = format!("Invalid pagination parameters: page number {page}, page size {size}");
                return Err(ApiError::BadPage("invalid_pagination_parameters", reason));
            }
        };
        let name = match get("name").filter(|name| !name.is_empty()) {
            Some(name) if name.len() > NAME_MAX_BYTES => {
                return Err(ApiError::BadRequest(format!("name is longer than {NAME_MAX_BYTES} bytes")));
            }
            Some(name) if get("use_regex") == Some("true") => {
                let pattern = Pattern::compile(&format!("(?i){name}"));
                Some(NameFilter::Matches(Box::new(pattern.map_err(|_| bad())?)))
            }
            Some(name) => Some(NameFilter::Contains(name.to_lowercase())),
            None => None,
        };
        Ok(Self {
            page,
            page_size,
            name,
            sort: get("sort").filter(|field| !field.is_empty()).map(str::to_owned),
            reverse: get("sort_reverse") == Some("true"),
            columns: get("columns")
                .unwrap_or_default()
                .split(',')
                .filter(|c| !c.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }

    /// Applies them to a whole listing. With a page the answer is an object, else a bare list, unfiltered.
    ///
    /// # Errors
    /// 400 for a page past the end.
    pub(crate) fn apply(&self, mut items: Vec<Value>) -> Result<Value, ApiError> {
        let total = items.len();
        if self.page.is_some() {
            items.retain(|item| self.keeps(item));
        }
        if let Some(field) = &self.sort {
            items.sort_by(|one, other| compare(dotted(one, field), dotted(other, field)));
        }
        if self.reverse {
            items.reverse();
        }
        let Some(page) = self.page else {
            return Ok(Value::Array(items.into_iter().map(|item| self.only_columns(item)).collect()));
        };
        let filtered = items.len();
        let page_count = filtered.div_ceil(self.page_size);
        let start = page.saturating_sub(1).saturating_mul(self.page_size);
        // A page that begins where the list ends is an empty one, as in RabbitMQ.
        if start > filtered {
            let size = self.page_size;
            let reason = format!("Page out of range, page: {page} page size: {size}, len: {filtered}");
            return Err(ApiError::BadPage("page_out_of_range", reason));
        }
        let items: Vec<Value> =
            items.into_iter().skip(start).take(self.page_size).map(|item| self.only_columns(item)).collect();
        Ok(json!({
            "filtered_count": filtered,
            "item_count": items.len(),
            "items": items,
            "page": page,
            "page_count": page_count,
            "page_size": self.page_size,
            "total_count": total,
        }))
    }

    /// The columns that were asked for, of one object; all of it when none were named.
    pub(crate) fn only_columns(&self, item: Value) -> Value {
        if self.columns.is_empty() {
            return item;
        }
        let mut kept = Map::new();
        for column in &self.columns {
            if let Some(value) = dotted(&item, column) {
                put(&mut kept, column, value.clone());
            }
        }
        Value::Object(kept)
    }

    fn keeps(&self, item: &Value) -> bool {
        let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
        match &self.name {
            None => true,
            Some(NameFilter::Contains(part)) => name.to_lowercase().contains(part),
            Some(NameFilter::Matches(pattern)) => pattern.matches(name),
        }
    }
}

fn dotted<'a>(item: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(item, |value, part| value.get(part))
}

/// Puts a value at a dotted path, making the objects on the way.
fn put(object: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            object.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = object.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Absent values first, then by kind, then by value.
fn compare(one: Option<&Value>, other: Option<&Value>) -> Ordering {
    fn rank(value: Option<&Value>) -> u8 {
        match value {
            None | Some(Value::Null) => 0,
            Some(Value::Bool(_)) => 1,
            Some(Value::Number(_)) => 2,
            Some(Value::String(_)) => 3,
            Some(Value::Array(_)) => 4,
            Some(Value::Object(_)) => 5,
        }
    }
    match (one, other) {
        (Some(Value::Bool(one)), Some(Value::Bool(other))) => one.cmp(other),
        (Some(Value::String(one)), Some(Value::String(other))) => one.cmp(other),
        (Some(Value::Number(one)), Some(Value::Number(other))) => {
            let (one, other) = (one.as_f64().unwrap_or(0.0), other.as_f64().unwrap_or(0.0));
            one.total_cmp(&other)
        }
        (one, other) => rank(one).cmp(&rank(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<ListQuery, ApiError> {
        ListQuery::read(&crate::query::pairs(query).unwrap())
    }

    fn names(query: &str, names: &[&str]) -> Value {
        let items = names
            .iter()
            .enumerate()
            .map(|(i, name)| json!({ "name": name, "a": { "n": i }, "b": 1 }))
            .collect();
        read(query).unwrap().apply(items).unwrap()
    }

    #[test]
    fn without_a_page_the_answer_is_the_whole_list() {
        assert_eq!(names("name=x&columns=name", &["x", "y"]), json!([{ "name": "x" }, { "name": "y" }]));
    }

    #[test]
    fn with_a_page_it_is_an_object_with_counts() {
        assert_eq!(
            names("page=2&page_size=2&name=Q&columns=name&pagination=false", &["q1", "other", "q2", "Q3"]),
            json!({ "filtered_count": 3, "item_count": 1, "items": [{ "name": "Q3" }], "page": 2, "page_count": 2,
                "page_size": 2, "total_count": 4 })
        );
        assert_eq!(names("page=1", &[])["page_count"], 0);
        assert_eq!(names("page=2&page_size=1", &["q"])["items"], json!([]));
        assert_eq!(
            names("page=1&name=%5Eq%5B12%5D%24&use_regex=true", &["q1", "q3", "aq1"])["filtered_count"],
            1
        );
    }

    #[test]
    fn impossible_pages_are_refused() {
        for (query, numbers) in [
            ("page=0", "page number 0, page size undefined"),
            ("page=-1", "page number -1, page size undefined"),
            ("page=1&page_size=501", "page number 1, page size 501"),
            ("page=1&page_size=0", "page number 1, page size 0"),
        ] {
            let reason = format!("Invalid pagination parameters: {numbers}");
            let expected = ApiError::BadPage("invalid_pagination_parameters", reason);
            assert_eq!(read(query).unwrap_err(), expected, "{query}");
        }
        let reason = "Page out of range, page: 2 page size: 100, len: 1".to_owned();
        let past = read("page=2").unwrap().apply(vec![json!({})]);
        assert_eq!(past.unwrap_err(), ApiError::BadPage("page_out_of_range", reason));
        assert!(matches!(read("page=x"), Err(ApiError::BadRequest(_))));
        // Without a page its size means nothing.
        assert!(read("page_size=501").is_ok());
        assert!(matches!(read("page=1&use_regex=true&name=("), Err(ApiError::BadRequest(_))));
        assert!(matches!(read(&format!("name={}", "a".repeat(1025))), Err(ApiError::BadRequest(_))));
    }

    #[test]
    fn the_order_follows_a_dotted_field_and_absent_values_come_first() {
        let list = vec![json!({ "a": { "n": 10 } }), json!({ "a": { "n": 9 } }), json!({})];
        let sorted = |query: &str| read(query).unwrap().apply(list.clone()).unwrap();
        assert_eq!(sorted("sort=a.n"), json!([{}, { "a": { "n": 9 } }, { "a": { "n": 10 } }]));
        assert_eq!(
            sorted("sort=a.n&sort_reverse=true"),
            json!([{ "a": { "n": 10 } }, { "a": { "n": 9 } }, {}])
        );
    }

    #[test]
    fn dotted_columns_keep_their_nesting() {
        assert_eq!(names("columns=a.n,b,nothing.here", &["x"]), json!([{ "a": { "n": 0 }, "b": 1 }]));
    }
}
