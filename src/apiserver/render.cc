#include "apiserver/render.h"

#include "apiserver/defaults.h"
#include "base/strings.h"

namespace postern::apiserver {
namespace {

Json partial(const Json& object, const char* version) {
  return {{"kind", "PartialObjectMetadata"},
          {"apiVersion", std::string("meta.k8s.io/") + version},
          {"metadata", object.value("metadata", Json::object())}};
}

Json tableOf(const Call& call, const Rendering& r, Json meta) {
  return {{"kind", "Table"},
          {"apiVersion", "meta.k8s.io/" + r.meta_version},
          {"metadata", std::move(meta)},
          {"columnDefinitions", columnDefinitions(call.served->kind, r.table)},
          {"rows", Json::array()}};
}

Json rowOf(const Call& call, const Rendering& r, const Json& object) {
  Json row = {{"cells", cellsOf(call.served->kind, object, r.table)}};
  if (r.include_object)
    row["object"] = versioned(*call.served, call.version, object);
  else if (!r.no_object)
    row["object"] = partial(object, "v1");
  return row;
}

}  // namespace

ApiResult<Rendering> renderingFor(const Call& call, WallTime now, ArrayStyle arrays) {
  Rendering r;
  r.table.now = now;
  r.table.arrays = arrays;
  r.include_object = call.parameter("includeObject") == "Object";
  r.no_object = call.parameter("includeObject") == "None";
  if (call.served) {
    if (const ServedVersion* v = call.served->version(call.version)) {
      r.table.printer_columns = &v->printer_columns;
    }
  }
  std::string accept = call.accept();
  if (base::trim(accept).empty()) return r;
  for (std::string_view offer : base::split(accept, ',')) {
    offer = base::trim(offer);
    auto parts = base::split(offer, ';');
    std::string_view type = base::trim(parts[0]);
    if (type != "application/json" && type != "application/*" && type != "*/*" &&
        type != "application/yaml") {
      continue;
    }
    std::string as;
    std::string version = "v1";
    for (std::size_t i = 1; i < parts.size(); ++i) {
      std::string_view p = base::trim(parts[i]);
      if (p.starts_with("as=")) as = p.substr(3);
      if (p.starts_with("v=")) version = p.substr(2);
    }
    r.meta_version = version;
    if (as.empty()) return r;
    if (as == "Table") {
      r.form = Rendering::Form::kTable;
      return r;
    }
    if (as.starts_with("PartialObjectMetadata")) {
      r.form = Rendering::Form::kMetadata;
      return r;
    }
  }
  return failed({406, "NotAcceptable",
                 "only the following media types are accepted: application/json", Json::object()});
}

Json versioned(const Served& served, const std::string& version, const Json& object) {
  Json out = object;
  convertFromStored(served.kind, version, out);
  if (const ServedVersion* v = served.version(version); v && v->schema.is_object()) {
    schema::applyDefaults(out, v->schema);
  }
  return out;
}

Json renderObject(const Call& call, const Rendering& r, const Json& object) {
  if (r.form == Rendering::Form::kMetadata) return partial(object, "v1");
  if (r.form == Rendering::Form::kPlain) return versioned(*call.served, call.version, object);
  Json meta = {{"resourceVersion", json::stringAt(object, "metadata.resourceVersion")}};
  Json table = tableOf(call, r, std::move(meta));
  table["rows"].push_back(rowOf(call, r, object));
  return table;
}

Json renderList(const Call& call, const Rendering& r, const std::vector<store::ObjectPtr>& objects,
                Json list_meta) {
  if (r.form == Rendering::Form::kTable) {
    Json table = tableOf(call, r, std::move(list_meta));
    for (const auto& object : objects) table["rows"].push_back(rowOf(call, r, *object));
    return table;
  }
  bool metadata = r.form == Rendering::Form::kMetadata;
  const schema::Kind& kind = call.served->kind;
  Json list = {{"kind", metadata ? "PartialObjectMetadataList" : kind.list_kind},
               {"apiVersion", metadata ? "meta.k8s.io/v1" : kind.apiVersion(call.version)},
               {"metadata", std::move(list_meta)},
               {"items", Json::array()}};
  for (const auto& object : objects) list["items"].push_back(renderObject(call, r, *object));
  return list;
}

}  // namespace postern::apiserver
