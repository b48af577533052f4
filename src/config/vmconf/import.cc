// The door of this folder: a vm.conf(5) becomes the text of a vmhost.toml(5), which our own
// parser must accept before anybody gets to see it.
#include <charconv>

#include "config/vmconf/parser.h"
#include "config/vmconf/writer.h"

namespace vmhost::config {

namespace {

// " at line 7" of the result, as the place it comes from.
std::string with_origins(const std::string& text, const std::vector<Place>& origins) {
    static constexpr std::string_view mark = " at line ";
    auto at = text.find(mark);
    if (at == std::string::npos)
        return text;
    const char* digits = text.data() + at + mark.size();
    std::size_t line = 0;
    auto [end, problem] = std::from_chars(digits, text.data() + text.size(), line);
    if (problem != std::errc() || line == 0 || line > origins.size())
        return text;
    const Place& origin = origins[line - 1];
    return fmt::format("{} at {}:{}{}", text.substr(0, at), printable(origin.file), origin.line,
                       std::string(end, text.data() + text.size()));
}

Complaints of_origin(const Complaints& complaints, const vmconf::Written& written,
                     const std::string& path) {
    Complaints out;
    for (const Error& complaint : complaints) {
        auto line = complaint.place().line;
        Place place{path, 0, 0};
        if (line >= 1 && line <= written.origins.size() && written.origins[line - 1].line != 0)
            place = written.origins[line - 1];
        out.push_back(
            Error(complaint.kind(), with_origins(complaint.text(), written.origins)).at(place));
    }
    return out;
}

} // namespace

std::expected<Imported, Complaints> import_vmconf(const std::string& path,
                                                  const ImportOptions& options) {
    Imported out;
    auto conf = vmconf::parse(path, options, out.warnings);
    if (!conf)
        return std::unexpected(std::move(conf).error());
    auto written = vmconf::write(*conf, out.warnings);
    if (auto model = parse(written.toml, "import"); !model)
        return std::unexpected(of_origin(model.error(), written, path));
    out.toml = std::move(written.toml);
    return out;
}

} // namespace vmhost::config
