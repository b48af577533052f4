#include "host/users.h"

#include <charconv>
#include <fstream>
#include <sstream>
#include <vector>

namespace vmhost::host {

namespace {

std::string read_text(const char* path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    for (;;) {
        auto at = text.find(separator);
        parts.push_back(text.substr(0, at));
        if (at == std::string_view::npos)
            return parts;
        text.remove_prefix(at + 1);
    }
}

std::optional<std::uint32_t> number(std::string_view text) {
    std::uint32_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

// Calls take(fields) for each line with at least count fields until it returns true.
template <class Take>
void each_line(const std::string& text, std::size_t count, Take take) {
    for (auto line : split(text, '\n')) {
        auto fields = split(line, ':');
        if (fields.size() >= count && take(fields))
            return;
    }
}

} // namespace

Users::Users(std::string passwd, std::string group)
    : passwd_(std::move(passwd)), group_(std::move(group)) {}

Users Users::of_this_host() {
    return Users(read_text("/etc/passwd"), read_text("/etc/group"));
}

Result<User> Users::user(std::string_view wanted) const {
    auto wanted_number = number(wanted);
    std::optional<User> found;
    each_line(passwd_, 4, [&](const auto& fields) {
        auto uid = number(fields[2]), gid = number(fields[3]);
        if (uid && gid && (fields[0] == wanted || uid == wanted_number))
            found = User{std::string(fields[0]), *uid, *gid};
        return found.has_value();
    });
    if (found)
        return *found;
    if (wanted_number)
        return User{std::string(wanted), *wanted_number, *wanted_number};
    return fail(ErrorKind::not_found, "user \"{}\" does not exist on this host",
                printable(wanted, 64));
}

Result<gid_t> Users::group(std::string_view wanted) const {
    auto wanted_number = number(wanted);
    std::optional<gid_t> found;
    each_line(group_, 3, [&](const auto& fields) {
        auto gid = number(fields[2]);
        if (gid && fields[0] == wanted)
            found = *gid;
        return found.has_value();
    });
    if (found)
        return *found;
    if (wanted_number)
        return *wanted_number;
    return fail(ErrorKind::not_found, "group \"{}\" does not exist on this host",
                printable(wanted, 64));
}

std::string Users::user_name(uid_t uid) const {
    std::string name = std::to_string(uid);
    each_line(passwd_, 4, [&](const auto& fields) {
        if (number(fields[2]) != uid)
            return false;
        name = std::string(fields[0]);
        return true;
    });
    return name;
}

std::string Users::group_name(gid_t gid) const {
    std::string name = std::to_string(gid);
    each_line(group_, 3, [&](const auto& fields) {
        if (number(fields[2]) != gid)
            return false;
        name = std::string(fields[0]);
        return true;
    });
    return name;
}

Result<OwnerIds> resolve(const Users& users, const config::Owner& owner) {
    OwnerIds ids;
    if (!owner.user.empty())
        ids.uid = TRY(users.user(owner.user)).uid;
    if (!owner.group.empty())
        ids.gid = TRY(users.group(owner.group));
    return ids;
}

} // namespace vmhost::host
