// dhcpd.conf(5) to TOML: read, written anew, and read once more as any configuration, so that what
// comes out is never refused later.
#include "config/dhcpdconf/conf.h"

namespace vmhost::config {

std::expected<Imported, Complaints> import_dhcpdconf(const std::string& path,
                                                     const ImportOptions& options) {
    auto failed = [](Error error) {
        Complaints complaints;
        complaints.push_back(std::move(error));
        return std::unexpected(std::move(complaints));
    };
    auto text = options.read(path);
    if (!text)
        return failed(std::move(text).error());
    auto statements = dhcpdconf::parse(*text, path);
    if (!statements)
        return failed(std::move(statements).error());
    auto written = dhcpdconf::write(*statements);
    auto model = parse(written.toml, path);
    if (!model) {
        // The places are those of the result: not of any use here.
        Complaints complaints;
        for (auto& complaint : model.error())
            complaints.emplace_back(complaint.kind(),
                                    fmt::format("{}: {}", path, complaint.text()));
        return std::unexpected(std::move(complaints));
    }
    return Imported{std::move(written.toml), std::move(written.warnings)};
}

} // namespace vmhost::config
