#include "http/site.h"

#include <algorithm>
#include <array>

#include <fmt/compile.h>
#include <sha2.h>

#include "http/date.h"
#include "http/directory.h"
#include "http/glob.h"
#include "http/media_type.h"

namespace vmhost::http {

namespace {

constexpr std::string_view index_text = "index.txt";
constexpr std::size_t max_lists = 64; // that are kept
constexpr std::size_t max_kept = 64;
// What is larger takes so long to send that finding it does not matter.
constexpr off_t max_kept_bytes = 64 << 10;
// One of no more goes with its head, in one call.
constexpr off_t max_read_bytes = 16 << 10;
constexpr std::string_view index_page = "index.html";

bool is_hidden(std::string_view path) {
    if (path.starts_with("/.well-known/"))
        path.remove_prefix(std::string_view("/.well-known").size());
    return path.find("/.") != std::string_view::npos;
}

// RFC 3986 §3.3: what a path may hold as it is.
std::string encode_path(std::string_view path) {
    std::string out;
    for (char c : path) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') ||
                           std::string_view("-._~/:@!$&'()*+,;=").find(c) != std::string_view::npos;
        out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return out;
}

// Whole, as OpenBSD's installer cannot follow a path alone. The client's name for us is only
// repeated when the location is for it: else anybody could make an answer name another host.
Response redirect_to_directory(const Request& request, const Location& location) {
    auto host =
        location.host != "*" && !request.host.empty() ? request.host : request.local.host_text();
    if (request.local_port != 80)
        host += fmt::format(":{}", request.local_port);
    auto response = error_response(301);
    response.headers.emplace_back("Location",
                                  fmt::format("http://{}{}/{}{}", host, encode_path(request.path),
                                              request.query.empty() ? "" : "?", request.query));
    return response;
}

// Whether digits, the VV of a file's name, are those of a release's directory; of snapshots they
// are those of the release to come, which this host does not know.
bool is_release(std::string_view digits, std::string_view version) {
    if (digits.empty() || digits.size() > 4 ||
        digits.find_first_not_of("0123456789") != std::string_view::npos)
        return false;
    std::string plain(version);
    std::erase(plain, '.');
    return version == "snapshots" || plain == digits;
}

// Of what is in it: it has no inode.
std::string tag_of(std::string_view content) {
    SHA2_CTX context;
    std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest{};
    ::SHA256Init(&context);
    ::SHA256Update(&context, as_bytes(content).data(), content.size());
    ::SHA256Final(digest.data(), &context);
    std::string tag = "\"";
    for (std::size_t i = 0; i < 16; ++i)
        tag += fmt::format("{:02x}", digest[i]);
    return tag + "\"";
}

// Null: it is large, or cannot be read as a whole.
std::shared_ptr<const std::string> content_of(const Opened& file) {
    const auto size = file.status.st_size;
    if (size > max_read_bytes)
        return nullptr;
    auto content = std::make_shared<std::string>(static_cast<std::size_t>(size), '\0');
    return ::pread(file.fd.get(), content->data(), content->size(), 0) == size ? content : nullptr;
}

} // namespace

std::string_view strip_components(std::string_view path, unsigned count) {
    for (; count > 0; --count) {
        auto end = path.find('/', 1);
        if (end == std::string_view::npos)
            return "/";
        path.remove_prefix(end);
    }
    return path;
}

void Site::configure_sets(std::vector<SiteSet> sets, std::int64_t now_unix_seconds) {
    std::vector<KnownSet> known;
    for (auto& set : sets) {
        auto validators = validators_of(tag_of(set.content), now_unix_seconds);
        for (const auto& before : sets_)
            if (before.set.only_for == set.only_for &&
                before.validators.entity_tag == validators.entity_tag)
                validators = before.validators;
        known.push_back({std::move(set), std::move(validators)});
    }
    sets_ = std::move(known);
}

std::optional<Response> Site::answer(const Request& request, std::int64_t now_unix_seconds) {
    if (std::exchange(now_, now_unix_seconds) != now_unix_seconds) {
        lists_.clear();
        kept_.clear();
    }
    const auto* location = find_location(request);
    if (location == nullptr)
        return std::nullopt;
    if (is_hidden(request.path))
        return error_response(404);
    if (!location->directory)
        return error_response(503);
    auto name = strip_components(request.path, location->strip).substr(1);
    if (location->sets)
        if (auto made = site_set(name, request))
            return made;
    const auto number = static_cast<std::size_t>(location - locations_.data());
    if (const auto* kept = find_kept(number, name))
        return send_file(*kept, request);
    auto opened = open_beneath(*location->directory, name);
    if (!opened) {
        if (opened.error().kind() == ErrorKind::not_found)
            if (auto index = made_index(*location, name, request))
                return index;
        return error_response(status_of(std::move(opened).error().in(printable(request.path))));
    }
    if (S_ISDIR(opened->status.st_mode))
        return send_directory(std::move(*opened), request, *location, name);
    if (name.ends_with('/'))
        return error_response(404);
    auto file = describe(*std::move(opened), name);
    auto response = send_file(file, request);
    if (file.status.st_size <= max_kept_bytes && kept_.size() < max_kept)
        kept_.push_back({number, std::string(name), std::move(file)});
    return response;
}

const Location* Site::find_location(const Request& request) const {
    auto location = std::ranges::find_if(locations_, [&](const Location& one) {
        return glob_matches(one.host, request.host) && glob_matches(one.path, request.path);
    });
    return location == locations_.end() ? nullptr : &*location;
}

bool Site::has_site_set(const Request& request) const {
    const auto* location = find_location(request);
    return location != nullptr && location->sets &&
           find_set(strip_components(request.path, location->strip).substr(1), request) != nullptr;
}

// Its change time tells of writing, of other rights, and of another file in its place.
const Site::File* Site::find_kept(std::size_t location, std::string_view name) {
    auto kept = std::ranges::find_if(
        kept_, [&](const Kept& one) { return one.location == location && one.name == name; });
    if (kept == kept_.end())
        return nullptr;
    const auto& was = kept->file.status;
    struct stat is {};
    if (::fstat(kept->file.fd->get(), &is) == 0 && is.st_nlink == was.st_nlink &&
        is.st_size == was.st_size && is.st_ctim.tv_sec == was.st_ctim.tv_sec &&
        is.st_ctim.tv_nsec == was.st_ctim.tv_nsec)
        return &kept->file;
    kept_.erase(kept);
    return nullptr;
}

Response Site::send_directory(Opened opened, const Request& request, const Location& location,
                              std::string_view name) {
    if (!request.path.ends_with('/'))
        return redirect_to_directory(request, location);
    auto page = open_beneath(opened.fd, index_page);
    if (page && S_ISREG(page->status.st_mode))
        return send_file(describe(*std::move(page), index_page), request);
    if (!page && page.error().kind() != ErrorKind::not_found)
        return error_response(status_of(std::move(page).error().in(printable(request.path))));
    return location.listing ? send_list(opened, location, name, request) : error_response(403);
}

// index.txt of a directory that has none.
std::optional<Response> Site::made_index(const Location& location, std::string_view name,
                                         const Request& request) {
    if (!location.listing || (name != index_text && !name.ends_with("/index.txt")))
        return std::nullopt;
    name.remove_suffix(index_text.size());
    auto directory = open_beneath(*location.directory, name);
    if (!directory || !S_ISDIR(directory->status.st_mode))
        return std::nullopt;
    return send_list(*directory, location, name, request);
}

// Null: the name is not that of a site set, or of none that the client has from here.
const Site::KnownSet* Site::find_set(std::string_view name, const Request& request) const {
    constexpr std::string_view before = "site", after = ".tgz";
    auto slash = name.find('/');
    auto file = name.substr(name.rfind('/') + 1);
    if (slash == std::string_view::npos || !file.starts_with(before) || !file.ends_with(after) ||
        std::ranges::count(name, '/') != 2 || file.size() < before.size() + after.size())
        return nullptr;
    file = file.substr(before.size(), file.size() - before.size() - after.size());
    auto digits = file.substr(0, file.find('-'));
    auto host_name = file.substr(std::min(digits.size() + 1, file.size()));
    if (!is_release(digits, name.substr(0, slash)) || file.ends_with('-'))
        return nullptr;
    auto found = std::ranges::find_if(sets_, [&](const KnownSet& one) {
        const auto& set = one.set;
        return set.host_name == host_name && !set.claimed &&
               (!set.only_for || *set.only_for == request.peer);
    });
    return found == sets_.end() ? nullptr : &*found;
}

std::optional<Response> Site::site_set(std::string_view name, const Request& request) const {
    const auto* found = find_set(name, request);
    if (found == nullptr)
        return std::nullopt;
    const auto& [set, validators] = *found;
    const auto size = set.content.size();
    auto selected = select(request.conditions, validators, size, request.method == "GET", now_);
    auto response = answer_of(selected, validators, size);
    if (selected.status == 200 || selected.status == 206) {
        response.content_type = media_type(".tgz");
        response.body = set.content.substr(selected.offset, selected.length);
    }
    if (set.only_for)
        response.headers.emplace_back("Cache-Control", "no-store");
    return response;
}

// What a list of VERSION/ARCH/ has besides, for the client.
std::string Site::site_lines(const Location& location, std::string_view directory,
                             std::string_view list, const Request& request) const {
    if (!location.sets || std::ranges::count(directory, '/') != 2)
        return {};
    const auto version = directory.substr(0, directory.find('/'));
    std::string digits(version);
    std::erase(digits, '.');
    if (version == "snapshots") { // as its base set says
        auto base = list.find(" base");
        auto end = list.find(".tgz\n", base == std::string_view::npos ? 0 : base);
        if (base == std::string_view::npos || end == std::string_view::npos)
            return {};
        digits = list.substr(base + 5, end - base - 5);
    }
    if (!is_release(digits, version))
        return {};
    std::string lines;
    for (const auto& [one, validators] : sets_) {
        if (one.only_for && *one.only_for != request.peer)
            continue;
        struct stat status {};
        status.st_mode = S_IFREG | 0644;
        status.st_nlink = 1;
        status.st_size = static_cast<off_t>(one.content.size());
        status.st_mtime = validators.modified;
        lines += list_line(
            fmt::format("site{}{}{}.tgz", digits, one.host_name.empty() ? "" : "-", one.host_name),
            status);
    }
    return lines;
}

Response Site::send_list(const Opened& directory, const Location& location, std::string_view name,
                         const Request& request) {
    auto list = std::ranges::find_if(lists_, [&](const List& one) {
        return one.device == directory.status.st_dev && one.inode == directory.status.st_ino;
    });
    if (list == lists_.end()) {
        List made{directory.status.st_dev, directory.status.st_ino, 200, {}};
        if (auto text = list_directory(directory.fd))
            made.text = std::move(*text);
        else
            made.status = status_of(text.error());
        if (lists_.size() >= max_lists)
            lists_.clear();
        lists_.push_back(std::move(made));
        list = std::prev(lists_.end());
    }
    if (list->status != 200)
        return error_response(list->status);
    Response response;
    response.content_type = media_type(index_text);
    response.body = list->text + site_lines(location, name, list->text, request);
    return response;
}

Site::File Site::describe(Opened opened, std::string_view name) const {
    const auto& status = opened.status;
    File file;
    file.validators = validators_of(
        fmt::format(FMT_COMPILE("\"{:x}-{:x}-{:x}-{:x}.{:x}\""), status.st_dev, status.st_ino,
                    status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec),
        std::min<std::int64_t>(status.st_mtim.tv_sec, now_)); // RFC 9110 §8.8.2.1
    file.content_type = media_type(name);
    file.content = content_of(opened); // also for who only asks about it: others ask soon
    file.fd = std::make_shared<const Fd>(std::move(opened.fd));
    file.status = status;
    return file;
}

Response Site::send_file(const File& file, const Request& request) const {
    const auto size = static_cast<std::uint64_t>(file.status.st_size);
    auto selected =
        select(request.conditions, file.validators, size, request.method == "GET", now_);
    auto response = answer_of(selected, file.validators, size);
    if (selected.status == 200 || selected.status == 206) {
        response.content_type = file.content_type;
        response.file = FileBody{file.fd, file.content, selected.offset, selected.length};
    }
    return response;
}

// What is wrong with this machine is told once a second, as any client can ask for it again.
int Site::status_of(const Error& error) {
    switch (error.kind()) {
    case ErrorKind::not_found:
        return 404;
    case ErrorKind::denied:
        return 403;
    default:
        if (std::exchange(complained_, now_) != now_)
            log::error("http", "{}", error.message());
        return error.kind() == ErrorKind::limit || error.kind() == ErrorKind::busy ? 503 : 500;
    }
}

} // namespace vmhost::http
