# cmake -DOUT=file.cc -DROOT=dir -DFILES="a.yaml|b.yaml" -P EmbedFiles.cmake
# Writes a C++ file with the texts as raw string literals, named by their path below ROOT.
string(REPLACE "|" ";" files "${FILES}")
set(entries "")
foreach(file ${files})
  file(RELATIVE_PATH name "${ROOT}" "${file}")
  file(READ "${file}" text)
  string(APPEND entries "    {\"${name}\",\n     R\"POSTERN(${text})POSTERN\"},\n")
endforeach()
file(WRITE "${OUT}.tmp" "#include \"cli/manifests.h\"\n
namespace postern::cli {\n
std::span<const Manifest> manifests() {
  static const Manifest kAll[] = {\n${entries}  };
  return kAll;
}\n
}  // namespace postern::cli\n")
file(RENAME "${OUT}.tmp" "${OUT}")
