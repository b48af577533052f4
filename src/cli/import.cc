// vmhost import: a vm.conf(5), a dhcpd.conf(5) or a _deploy.conf as a vmhost.toml(5).
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

namespace vmhost::cli {

namespace {

Result<void> write_all(const Fd& file, std::string_view text, const std::string& path) {
    while (!text.empty()) {
        auto count = ::write(file.get(), text.data(), text.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "write {}", printable(path));
        text.remove_prefix(static_cast<std::size_t>(count));
    }
    return {};
}

// All of it or nothing: a file that is there stays as it is until the new one is complete.
Result<void> write_file(const std::string& path, std::string_view text, bool replace) {
    auto beside = path + ".XXXXXX";
    Fd file(::mkostemp(beside.data(), O_CLOEXEC));
    if (!file)
        return fail_errno(errno, "create {}", printable(path));
    auto written = write_all(file, text, path);
    auto mask = ::umask(0);
    ::umask(mask);
    if (written && (::fchmod(file.get(), 0644 & ~mask) < 0 || ::fsync(file.get()) < 0))
        written = fail_errno(errno, "write {}", printable(path));
    if (written && ::renameat2(AT_FDCWD, beside.c_str(), AT_FDCWD, path.c_str(),
                               replace ? 0 : RENAME_NOREPLACE) < 0)
        written = errno == EEXIST
                      ? fail(ErrorKind::exists, "{} exists: give -f to replace it", printable(path))
                      : fail_errno(errno, "create {}", printable(path));
    if (!written)
        ::unlink(beside.c_str());
    return written;
}

} // namespace

int run_import(const Command& command) {
    config::ImportOptions options;
    options.read = config::read_config_file;
    for (const auto& definition : command.macros) {
        auto equals = definition.find('=');
        options.macros.emplace_back(definition.substr(0, equals),
                                    equals == std::string::npos ? std::string()
                                                                : definition.substr(equals + 1));
    }
    auto name = std::string_view(command.source);
    name.remove_prefix(name.rfind('/') + 1);
    auto imported = name.starts_with("_deploy") ? config::import_deployconf(command.source, options)
                    : command.dhcpd || name.starts_with("dhcpd")
                        ? config::import_dhcpdconf(command.source, options)
                        : config::import_vmconf(command.source, options);
    if (!imported) {
        for (const auto& complaint : imported.error())
            std::fprintf(stderr, "%s\n", complaint.message().c_str());
        return 1;
    }
    for (const auto& warning : imported->warnings) {
        auto at =
            warning.place().line == 0
                ? std::string()
                : fmt::format("{}:{}: ", printable(warning.place().file), warning.place().line);
        std::fprintf(stderr, "%swarning: %s\n", at.c_str(), warning.text().c_str());
    }
    if (command.target.empty()) {
        std::fputs(imported->toml.c_str(), stdout);
        return std::fflush(stdout) == 0 ? 0 : 1;
    }
    if (auto written = write_file(command.target, imported->toml, command.force); !written) {
        std::fprintf(stderr, "vmhost: %s\n", written.error().message().c_str());
        return 1;
    }
    return 0;
}

} // namespace vmhost::cli
