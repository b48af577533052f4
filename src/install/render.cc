// Writes an answer file: the operator's lines, then ours for every question that
// those leave open.
//
// Which of our lines are needed is found out by playing the questions through with
// all lines: one of ours that no question takes is left out. It would not lie
// idle: a question that is asked twice would take it the second time.
//
// Verification of the sets is not given up: only what the installer cannot verify
// by its design is waved through, and only when the operator's choice of sets asks
// for it (site sets are not in SHA256.sig), or when a disk is too small to verify
// before unpacking. Over plain HTTP anything more would let whoever sits on the
// path replace the system.

#include "install/install.h"

#include <algorithm>

#include "install/answer_file.h"
#include "install/files.h"
#include "install/password.h"
#include "install/way.h"

namespace vmhost::install {

namespace {

constexpr std::string_view arch = "amd64";

struct Mirror {
    std::string server;    // "http://192.0.2.1:8080": the scheme saves the try of https first
    std::string directory; // "pub/OpenBSD"
};

Result<Mirror> parse_mirror(std::string_view url) {
    for (std::string_view scheme : {"http://", "https://"}) {
        if (!url.starts_with(scheme))
            continue;
        auto rest = url.substr(scheme.size());
        auto slash = std::min(rest.find('/'), rest.size());
        auto server = rest.substr(0, slash);
        auto directory = rest.substr(slash);
        while (directory.starts_with('/'))
            directory.remove_prefix(1);
        while (directory.ends_with('/'))
            directory.remove_suffix(1);
        // What the installer accepts after the scheme.
        const bool good =
            !server.empty() &&
            server.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU"
                                     "VWXYZ0123456789:.[]%_-") == std::string_view::npos;
        if (good)
            return Mirror{std::string(scheme) + std::string(server), std::string(directory)};
    }
    return fail(ErrorKind::invalid,
                "install mirror \"{}\" is no address the installer takes: write it like "
                "http://cdn.openbsd.org/pub/OpenBSD",
                printable(url));
}

Result<void> check_value(std::string_view what, std::string_view value) {
    for (char c : value)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            return fail(ErrorKind::invalid, "install {} has a {}, an answer is one line", what,
                        c == '\n' ? "line feed" : "control character");
    return {};
}

Result<void> check_password(std::string_view what, std::string_view value) {
    if (value.starts_with(' ') || value.ends_with(' '))
        return fail(ErrorKind::invalid,
                    "install {} begins or ends with a blank, which the installer cuts off", what);
    return {};
}

// The installer's own rule; root and the system's names would pass there, and harm.
Result<void> check_user(std::string_view user) {
    constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyz";
    if (user.size() > 31 || letters.find(user[0]) == std::string_view::npos ||
        user.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_") != std::string_view::npos)
        return fail(ErrorKind::invalid,
                    "install user \"{}\" is no login name: lower-case letters, digits, \"-\" and "
                    "\"_\", a letter first, at most 31",
                    printable(user, 80));
    for (std::string_view reserved :
         {"no", "n", "root", "daemon", "operator", "bin", "build", "sshd", "www", "nobody", "ftp"})
        if (user == reserved)
            return fail(ErrorKind::invalid, "install user \"{}\" is a name the system uses itself",
                        user);
    return {};
}

class Writer {
public:
    Writer(const config::Model& model, const config::Vm& vm, config::InstallMode mode)
        : model_(model), vm_(vm), mode_(mode) {}

    Result<std::string> run() {
        TRY(take_operators_lines());
        own_lines_begin_ = lines_.size();
        if (mode_ == config::InstallMode::install) {
            TRY(add_system());
            TRY(add_ipv6());
            TRY(add_login());
            TRY(add_disk());
        }
        TRY(add_sets());
        return text();
    }

private:
    const config::VmInstall& install() const { return *vm_.install; }

    Result<void> add(std::string_view key, std::string_view value) {
        TRY(check_value(fmt::format("answer to \"{}\"", key), value));
        if (!value.empty())
            lines_.push_back(make_line(key, value));
        return {};
    }

    Result<void> take_operators_lines() {
        for (const auto& [key, value] : install().answers) {
            TRY(check_value("answers", key));
            TRY(check_value(fmt::format("answer to \"{}\"", key), value));
            auto parsed = parse_lines(key + " = " + value);
            if (parsed.size() != 1 || parsed[0].key != key)
                return fail(ErrorKind::invalid,
                            "install answers: \"{}\" = \"{}\" cannot be written as a line that "
                            "the installer reads back",
                            printable(key), printable(value));
            lines_.push_back(std::move(parsed[0]));
        }
        return {};
    }

    Result<void> add_system() {
        const auto& host_name = install().hostname.empty() ? vm_.name : install().hostname;
        if (host_name.find_first_of(" \t") != std::string::npos)
            return fail(ErrorKind::invalid, "install hostname \"{}\" has a blank",
                        printable(host_name));
        TRY(add("System hostname", host_name));
        if (host_name.find('.') == std::string::npos)
            TRY(add("DNS domain name", model_.host.domain));
        return {};
    }

    Result<void> add_login() {
        auto or_none = [](const std::string& password) {
            return password.empty() ? std::string(no_password) : password;
        };
        const auto& user = install().user;
        TRY(check_password("root_password", install().root_password));
        TRY(check_password("password", install().password));
        TRY(add("Password for root", or_none(install().root_password)));
        if (user.empty())
            TRY(add("Public ssh key for root", install().sshkey));
        TRY(add("Change the default console to com0", "yes"));
        TRY(add("Which speed should com0 use", "115200"));
        if (user.empty()) {
            TRY(add("Setup a user", "no"));
            if (!install().sshkey.empty())
                TRY(add("Allow root ssh login", "prohibit-password"));
        } else {
            TRY(check_user(user));
            TRY(add("Setup a user", user));
            TRY(add("Full name for user", user));
            TRY(add("Password for user", or_none(install().password)));
            TRY(add("Public ssh key for user", install().sshkey));
        }
        TRY(add("What timezone are you in",
                install().timezone.empty() ? "UTC" : install().timezone));
        return {};
    }

    Result<void> add_disk() {
        // Else the default would follow the firmware: GPT where ACPI is new enough.
        lines_.push_back(make_line("Use (W)hole disk", "whole"));
        if (install().disklabel.empty())
            return {};
        const auto server = TRY(own_server(model_, vm_, "disklabel"));
        TRY(add("URL to autopartitioning template for disklabel",
                fmt::format("{}/{}", server, disklabel_name)));
        return {};
    }

    Result<void> add_sets() {
        TRY(check_value("hostname", install().hostname)); // it names a site set
        auto url = model_.install.mirror;
        if (!model_.install.sets.empty())
            url = TRY(own_server(model_, vm_, "install.sets")) + "/pub/OpenBSD";
        auto mirror = TRY(parse_mirror(url));
        const auto& release = model_.install.release;
        if (!mirror.directory.empty())
            mirror.directory += '/';
        TRY(add("Location of sets", "http"));
        TRY(add("HTTP Server", mirror.server));
        TRY(add("Server directory", fmt::format("{}{}/{}", mirror.directory, release, arch)));
        // The installer chooses none of those by itself.
        TRY(add("Set name(s)", has_site_sets() && !names_site_sets()
                                   ? install().sets + (install().sets.empty() ? "" : " ") + "+site*"
                                   : install().sets));
        TRY(add("Cannot determine prefetch area. Continue without verification", "yes"));
        return {};
    }

    // The installer knows no DHCPv6; without SLAAC this is how its system gets the VM's address.
    Result<void> add_ipv6() {
        auto found = way_of(model_, vm_);
        if (!found || !found->on.ipv6 || !found->interface.ipv6)
            return {};
        const auto vio = fmt::format("vio{}", found->index);
        TRY(add("IPv6 address for " + vio, found->interface.ipv6->text()));
        TRY(add("IPv6 prefix length for " + vio, fmt::format("{}", found->on.ipv6->length)));
        if (found->on.ra.router)
            TRY(add("IPv6 default router", found->on.ipv6->address.text()));
        return {};
    }

    bool has_site_sets() const {
        return model_.install.site || install().site ||
               keyed_set_name(model_, vm_, mode_ == config::InstallMode::upgrade);
    }
    bool names_site_sets() const {
        std::string_view rest = install().sets;
        while (!rest.empty()) {
            auto word = rest.substr(0, rest.find(' '));
            rest.remove_prefix(std::min(word.size() + 1, rest.size()));
            if (word.starts_with('+'))
                word.remove_prefix(1);
            if (word.starts_with("site"))
                return true;
        }
        return false;
    }

    // The installer asks once for each site set and once for all of them together.
    void add_site_lines(std::string& out) const {
        std::string version;
        for (char c : model_.install.release)
            if (c != '.')
                version += c;
        auto general = fmt::format("site{}.tgz", version);
        auto own = fmt::format("site{}-{}.tgz", version, short_host_name(vm_));
        for (const auto& set : {general, own})
            out += fmt::format("Checksum test for {} failed. Continue anyway = yes\n", set);
        for (const auto& sets : {general, own, general + " " + own})
            out += fmt::format("Unverified sets: {}. Continue without verification = yes\n", sets);
    }

    std::string text() {
        play(lines_, [](const Question&) {});
        std::string out = fmt::format("# {}\n", vm_.name);
        for (std::size_t i = 0; i < lines_.size(); ++i)
            if (i < own_lines_begin_ || lines_[i].taken_by)
                out += lines_[i].key + " = " + lines_[i].value + "\n";
        if (has_site_sets() || names_site_sets())
            add_site_lines(out);
        return out;
    }

    const config::Model& model_;
    const config::Vm& vm_;
    config::InstallMode mode_;
    std::vector<Line> lines_;
    std::size_t own_lines_begin_ = 0;
};

} // namespace

Result<std::string> render_answers(const config::Model& model, const config::Vm& vm,
                                   config::InstallMode mode) {
    auto context = fmt::format("vm \"{}\"", vm.name);
    if (!vm.install)
        return fail(ErrorKind::invalid, "{}: has no install table", context);
    if (!vm.install->file.empty())
        return fail(ErrorKind::invalid, "{}: its answers come from the file {}", context,
                    vm.install->file);
    auto text = Writer(model, vm, mode).run();
    if (!text)
        return std::unexpected(std::move(text).error().in(context).at(vm.place));
    return text;
}

} // namespace vmhost::install
