#include "install/site_set.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <zlib.h>

namespace vmhost::install {

namespace {

constexpr std::size_t block_bytes = 512;

// pax(1), "ustar Interchange Format".
struct Header {
    char name[100];
    char mode[8], uid[8], gid[8];
    char size[12], mtime[12];
    char checksum[8];
    char type;
    char link_name[100];
    char magic[6], version[2];
    char user[32], group[32];
    char major[8], minor[8];
    char prefix[155];
    char unused[12];
};
static_assert(sizeof(Header) == block_bytes);

bool is_beneath(std::string_view path) {
    for (auto rest = path; !rest.empty();) {
        auto part = rest.substr(0, rest.find('/'));
        rest.remove_prefix(std::min(part.size() + 1, rest.size()));
        if (part.empty() || part == "." || part == "..")
            return false;
    }
    return !path.empty() && !path.ends_with('/') && path.find('\0') == std::string_view::npos;
}

template <std::size_t size>
void put_octal(char (&field)[size], std::uint64_t value) {
    auto text = fmt::format("{:0{}o}", value, size - 1); // a zero byte ends it
    std::memcpy(field, text.data(), size - 1);
}

template <std::size_t size>
void put_text(char (&field)[size], std::string_view text) {
    std::memcpy(field, text.data(), std::min(text.size(), size));
}

// The name has 100 bytes, and what stands before one of its slashes 155 more.
bool put_path(Header& header, std::string_view path) {
    if (path.size() <= sizeof(header.name)) {
        put_text(header.name, path);
        return true;
    }
    for (auto slash = path.find('/'); slash != std::string_view::npos;
         slash = path.find('/', slash + 1))
        if (path.size() - slash - 1 <= sizeof(header.name) && slash <= sizeof(header.prefix)) {
            put_text(header.prefix, path.substr(0, slash));
            put_text(header.name, path.substr(slash + 1));
            return true;
        }
    return false;
}

Result<Header> header_of(std::string_view path, const ArchiveFile& file) {
    Header header{};
    if (!is_beneath(path) || !put_path(header, path))
        return fail(ErrorKind::invalid, "site set: \"{}\" is no path that it can have",
                    printable(path));
    put_octal(header.mode, file.mode & 07777);
    put_octal(header.uid, file.owner);
    put_octal(header.gid, file.group);
    put_octal(header.size, file.content.size());
    put_octal(header.mtime, 0);
    header.type = '0';
    put_text(header.magic, std::string_view("ustar\0", 6));
    put_text(header.version, "00");
    put_octal(header.major, 0);
    put_octal(header.minor, 0);
    // Counted with blanks in its own place.
    std::memset(header.checksum, ' ', sizeof(header.checksum));
    unsigned sum = 0;
    for (auto byte : Bytes(reinterpret_cast<const std::uint8_t*>(&header), sizeof(header)))
        sum += byte;
    auto text = fmt::format("{:06o}", sum);
    std::memcpy(header.checksum, text.c_str(), text.size() + 1);
    return header;
}

using Settings = std::vector<std::pair<std::string, std::string>>;

// "name=value" lines: those of before, as far as they are not set again, and then its own.
std::string lines_of(const Settings& own, const Settings* before) {
    std::string text;
    auto add = [&](const auto& setting) {
        text += fmt::format("{}={}\n", setting.first, setting.second);
    };
    if (before != nullptr)
        for (const auto& setting : *before)
            if (std::ranges::none_of(own,
                                     [&](const auto& one) { return one.first == setting.first; }))
                add(setting);
    std::ranges::for_each(own, add);
    return text;
}

} // namespace

Result<Archive> site_files(const config::Site& site, const config::Site* general,
                           const ReadFile& read_file) {
    Archive files;
    if (!site.installurl.empty())
        files["etc/installurl"].content = site.installurl + "\n";
    if (!site.sysctl.empty())
        files["etc/sysctl.conf"].content =
            lines_of(site.sysctl, general ? &general->sysctl : nullptr);
    if (!site.rc_conf_local.empty())
        files["etc/rc.conf.local"].content =
            lines_of(site.rc_conf_local, general ? &general->rc_conf_local : nullptr);
    if (!site.install_site.empty()) {
        auto& script = files["install.site"];
        script.mode = 0755;
        script.content = site.install_site;
        // A path, and no script that begins with one.
        if (script.content.starts_with('/') && script.content.find('\n') == std::string::npos)
            script.content = TRY(read_file(script.content));
    }
    for (const auto& file : site.files) {
        auto content = file.content;
        if (!file.source.empty())
            content = TRY(read_file(file.source));
        files[file.path] = {std::move(content), file.owner, file.group, file.mode};
    }
    return files;
}

Result<std::string> tar_of(const Archive& files) {
    std::string tar;
    for (const auto& [path, file] : files) {
        auto header = TRY(header_of(path, file));
        tar.append(reinterpret_cast<const char*>(&header), sizeof(header));
        tar += file.content;
        tar.append((block_bytes - file.content.size() % block_bytes) % block_bytes, '\0');
    }
    return tar.append(2 * block_bytes, '\0');
}

Result<std::string> gzip_of(std::string_view bytes) {
    constexpr int gzip_window = 15 + 16; // the largest window, and a gzip header: without a time
    z_stream stream{};
    if (::deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, gzip_window, 8,
                       Z_DEFAULT_STRATEGY) != Z_OK)
        return fail(ErrorKind::internal, "site set: zlib does not begin");
    std::string out(::deflateBound(&stream, bytes.size()), '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(bytes.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    const bool done = ::deflate(&stream, Z_FINISH) == Z_STREAM_END;
    out.resize(stream.total_out);
    ::deflateEnd(&stream);
    if (!done)
        return fail(ErrorKind::internal, "site set: zlib does not end");
    return out;
}

std::optional<std::string> keyed_set_name(const config::Model& model, const config::Vm& vm,
                                          bool upgrade) {
    if (!vm.install || !vm.install->host_keys ||
        vm.install->system != config::InstallSystem::openbsd || upgrade)
        return std::nullopt;
    auto digits = model.install.release;
    std::erase(digits, '.');
    return fmt::format("site{}-{}.tgz", digits, short_host_name(vm));
}

void add_host_key(Archive& files, const HostKey& key) {
    const std::string path = "etc/ssh/ssh_host_ed25519_key";
    files[path] = {.content = key.private_text, .mode = 0600};
    files[path + ".pub"] = {.content = key.public_line + "\n", .mode = 0644};
}

std::string_view short_host_name(const config::Vm& vm) {
    std::string_view name = vm.name;
    if (vm.install && !vm.install->hostname.empty())
        name = vm.install->hostname;
    return name.substr(0, name.find('.'));
}

} // namespace vmhost::install
