//! The dashboard file as Kibana reads it: what every panel asks of Elasticsearch, and its answer as
//! rows.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The file, one saved object a line.
pub(crate) fn objects() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/elk/dashboard.ndjson");
    let text = std::fs::read_to_string(path).expect("the dashboard");
    let parse = |line| serde_json::from_str(line).expect("an object");
    text.lines().map(parse).collect()
}

/// A panel: one Lens layer.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) query: String,
    pub(crate) layer: String,
    pub(crate) columns: Map<String, Value>,
    pub(crate) order: Vec<String>,
    pub(crate) visualization: Value,
}

/// One row of a panel's answer: a value for each column.
pub(crate) type Row = BTreeMap<String, Value>;

impl Panel {
    pub(crate) fn all() -> Vec<Self> {
        let objects = objects();
        let lenses = objects.iter().filter(|object| object["type"] == "lens");
        lenses.map(Self::of).collect()
    }

    pub(crate) fn titled(title: &str) -> Self {
        let mut all = Self::all().into_iter();
        let found = all.find(|panel| panel.title == title);
        found.unwrap_or_else(|| panic!("no panel {title}"))
    }

    fn of(lens: &Value) -> Self {
        let attributes = &lens["attributes"];
        let state = &attributes["state"];
        let layers = state["datasourceStates"]["formBased"]["layers"].as_object();
        let layers = layers.expect("layers");
        assert_eq!(layers.len(), 1, "{lens}");
        let (name, layer) = layers.iter().next().expect("a layer");
        let order = layer["columnOrder"].as_array().expect("an order");
        Self {
            title: attributes["title"].as_str().expect("a title").to_owned(),
            query: state["query"]["query"]
                .as_str()
                .expect("a query")
                .to_owned(),
            layer: name.clone(),
            columns: layer["columns"].as_object().expect("columns").clone(),
            order: order
                .iter()
                .map(|id| id.as_str().expect("an id").to_owned())
                .collect(),
            visualization: state["visualization"].clone(),
        }
    }

    fn buckets(&self) -> Vec<&str> {
        self.split(true)
    }

    fn metrics(&self) -> Vec<&str> {
        self.split(false)
    }

    fn split(&self, bucketed: bool) -> Vec<&str> {
        let is = |id: &&String| self.columns[*id]["isBucketed"] == bucketed;
        self.order.iter().filter(is).map(String::as_str).collect()
    }

    /// What Kibana would ask, with a time grid of one second.
    pub(crate) fn request(&self) -> Value {
        let mut aggs = self.metrics_aggs();
        for id in self.buckets().into_iter().rev() {
            let mut agg = self.bucket_agg(id);
            agg["aggs"] = Value::Object(aggs);
            aggs = Map::from_iter([(id.to_owned(), agg)]);
            // An order by a metric needs the metric beside the buckets.
            if let Some(by) = self.order_metric(id) {
                let metric = self.metric_agg(by);
                let inner = aggs[id]["aggs"].as_object_mut().expect("aggregations");
                inner.entry(by.to_owned()).or_insert(metric);
            }
        }
        json!({ "query": kql(&self.query), "aggs": aggs })
    }

    /// The rows of the answer.
    pub(crate) fn rows(&self, answer: &Value) -> Vec<Row> {
        let mut rows = Vec::new();
        let total = answer["hits"]["total"]["value"].clone();
        self.walk(
            &answer["aggregations"],
            &total,
            &self.buckets(),
            &Row::new(),
            &mut rows,
        );
        rows
    }

    fn walk(&self, at: &Value, count: &Value, buckets: &[&str], so_far: &Row, rows: &mut Vec<Row>) {
        let Some((id, inner)) = buckets.split_first() else {
            let mut row = so_far.clone();
            for metric in self.metrics() {
                row.insert(metric.to_owned(), self.metric_value(metric, at, count));
            }
            rows.push(row);
            return;
        };
        let found = &at[*id]["buckets"];
        let keyed: Vec<(Value, &Value)> = if let Some(all) = found.as_array() {
            // A time as the lines have it.
            let key = |b: &Value| b.get("key_as_string").unwrap_or(&b["key"]).clone();
            all.iter().map(|b| (key(b), b)).collect()
        } else {
            let named = found.as_object();
            let named = named.unwrap_or_else(|| panic!("no buckets of {id} in {at}"));
            named.iter().map(|(k, b)| (json!(k), b)).collect()
        };
        for (key, bucket) in keyed {
            let mut row = so_far.clone();
            row.insert((*id).to_owned(), key);
            self.walk(bucket, &bucket["doc_count"], inner, &row, rows);
        }
    }

    fn order_metric(&self, bucket: &str) -> Option<&str> {
        let by = self.columns[bucket]["params"]["orderBy"]["columnId"].as_str()?;
        (self.columns[by]["operationType"] != "count").then_some(by)
    }

    fn bucket_agg(&self, id: &str) -> Value {
        let (column, params) = (&self.columns[id], &self.columns[id]["params"]);
        match column["operationType"].as_str().expect("an operation") {
            "terms" => {
                let by = self.order_metric(id).unwrap_or("_count");
                let direction = &params["orderDirection"];
                json!({"terms": {"field": column["sourceField"], "size": params["size"],
                    "order": {by: direction}}})
            }
            "date_histogram" => json!({"date_histogram":
                {"field": column["sourceField"], "fixed_interval": "1s", "min_doc_count": 1}}),
            "filters" => {
                let filters = params["filters"].as_array().expect("filters");
                let pair = |filter: &Value| {
                    let query = filter["input"]["query"].as_str().expect("a query");
                    (
                        filter["label"].as_str().expect("a label").to_owned(),
                        kql(query),
                    )
                };
                json!({"filters": {"filters": filters.iter().map(pair).collect::<Map<_, _>>()}})
            }
            other => panic!("a bucket by {other}"),
        }
    }

    fn metrics_aggs(&self) -> Map<String, Value> {
        let of = |id: &&str| self.columns[*id]["operationType"] != "count";
        let metrics = self.metrics().into_iter().filter(of);
        metrics
            .map(|id| (id.to_owned(), self.metric_agg(id)))
            .collect()
    }

    fn metric_agg(&self, id: &str) -> Value {
        let column = &self.columns[id];
        let (field, params) = (&column["sourceField"], &column["params"]);
        let agg = match column["operationType"].as_str().expect("an operation") {
            "max" => json!({"max": {"field": field}}),
            "unique_count" => json!({"cardinality": {"field": field}}),
            "percentile" => json!({"percentiles": {"field": field,
                "percents": [params["percentile"]]}}),
            "last_value" => json!({"top_hits": {"size": 1, "_source": [field],
                "sort": [{params["sortField"].as_str().expect("a field"): "desc"}]}}),
            other => panic!("a metric by {other}"),
        };
        let mut narrow = Vec::new();
        if let Some(query) = column["filter"]["query"].as_str() {
            narrow.push(kql(query));
        }
        if let Some(range) = column["reducedTimeRange"].as_str() {
            narrow.push(json!({"range": {"@timestamp": {"gte": format!("now-{range}")}}}));
        }
        if narrow.is_empty() {
            return agg;
        }
        json!({"filter": {"bool": {"filter": narrow}}, "aggs": {"narrowed": agg}})
    }

    fn metric_value(&self, id: &str, at: &Value, count: &Value) -> Value {
        let column = &self.columns[id];
        let found = at[id].get("narrowed").unwrap_or(&at[id]);
        match column["operationType"].as_str().expect("an operation") {
            "count" => count.clone(),
            "percentile" => {
                let values = found["values"].as_object().expect("percentiles");
                values.values().next().expect("one").clone()
            }
            "last_value" => {
                let field = column["sourceField"].as_str().expect("a field");
                found["hits"]["hits"][0]["_source"][field].clone()
            }
            _ => found["value"].clone(),
        }
    }
}

/// What a query of Kibana's language asks of Elasticsearch: as much of it as the dashboard uses.
/// `a: x`, `a: *`, `a: (x or y)`, `a >= 1`, `a < 1`, joined by `and`.
pub(crate) fn kql(query: &str) -> Value {
    let clauses: Vec<Value> = query.split(" and ").map(clause).collect();
    json!({"bool": {"filter": clauses}})
}

fn clause(text: &str) -> Value {
    for (sign, name) in [(" >= ", "gte"), (" < ", "lt")] {
        if let Some((field, value)) = text.split_once(sign) {
            let value: i64 = value.trim().parse().expect("a number");
            return json!({"range": {field.trim(): {name: value}}});
        }
    }
    let (field, value) = text
        .split_once(':')
        .unwrap_or_else(|| panic!("no clause: {text}"));
    let (field, value) = (field.trim(), value.trim());
    if value == "*" {
        return json!({"exists": {"field": field}});
    }
    let any = value
        .strip_prefix('(')
        .and_then(|value| value.strip_suffix(')'));
    let any: Vec<&str> = any.unwrap_or(value).split(" or ").map(str::trim).collect();
    json!({"terms": {field: any}})
}
