#include "sets/shelf.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>

#include <sodium.h>

namespace vmhost::sets {

namespace {

// Names in a directory without those that begin with a dot, sorted.
Result<std::vector<std::string>> names_in(const std::string& directory) {
    std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(directory.c_str()), ::closedir);
    if (!stream)
        return fail_errno(errno, "directory {}", printable(directory));
    std::vector<std::string> names;
    while (const auto* entry = ::readdir(stream.get())) {
        if (entry->d_name[0] == '.')
            continue;
        if (names.size() >= limits::max_http_listed_files)
            return fail(ErrorKind::limit, "directory {} has more than {} names",
                        printable(directory), limits::max_http_listed_files);
        names.emplace_back(entry->d_name);
    }
    std::ranges::sort(names);
    return names;
}

bool is_file(const std::string& path, struct stat& status) {
    return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

Result<Fd> open_regular(const std::string& path, struct stat& status) {
    Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!file || ::fstat(file.get(), &status) < 0)
        return fail_errno(errno, "{}", printable(path));
    if (!S_ISREG(status.st_mode))
        return fail(ErrorKind::invalid, "{} is no regular file", printable(path));
    return file;
}

// Until the end; false when the reader wants no more.
template <class Take>
Result<void> read_all(const Fd& file, const std::string& path, Take take) {
    std::vector<std::uint8_t> piece(limits::fetch_piece_bytes);
    for (;;) {
        auto count = ::read(file.get(), piece.data(), piece.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "read {}", printable(path));
        if (count == 0)
            return {};
        TRY(take(Bytes(piece).first(static_cast<std::size_t>(count))));
    }
}

} // namespace

std::string record_text(const Record& record) {
    auto text = fmt::format("time {}\nkey {}\n", record.time_s, record.key);
    for (const auto& file : record.files)
        text += fmt::format("file {}\n", file);
    return text;
}

Result<Record> parse_record(std::string_view text) {
    Record record;
    auto wrong = [] { return fail(ErrorKind::corrupt, "it is no record of a fetch"); };
    while (!text.empty()) {
        auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        auto blank = line.find(' ');
        if (blank == std::string_view::npos || blank + 1 == line.size())
            return wrong();
        auto word = line.substr(0, blank), value = line.substr(blank + 1);
        if (word == "time") {
            auto [end, problem] =
                std::from_chars(value.data(), value.data() + value.size(), record.time_s);
            if (problem != std::errc() || end != value.data() + value.size())
                return wrong();
        } else if (word == "key") {
            record.key = value;
        } else if (word == "file" && record.files.size() < limits::max_set_files) {
            record.files.emplace_back(value);
        } else {
            return wrong();
        }
    }
    if (record.time_s <= 0 || record.key.empty())
        return wrong();
    return record;
}

Result<std::string> read_text(const std::string& path, std::size_t max_bytes) {
    struct stat status {};
    auto file = TRY(open_regular(path, status));
    std::string text;
    TRY(read_all(file, path, [&](Bytes bytes) -> Result<void> {
        text += as_text(bytes);
        if (text.size() > max_bytes)
            return fail(ErrorKind::limit, "{} has more than {}", printable(path),
                        format_size(max_bytes));
        return {};
    }));
    return text;
}

Result<std::array<std::uint8_t, 32>> sha256_of(const std::string& path, const OnBytes& on_bytes) {
    struct stat status {};
    auto file = TRY(open_regular(path, status));
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    TRY(read_all(file, path, [&](Bytes bytes) -> Result<void> {
        crypto_hash_sha256_update(&state, bytes.data(), bytes.size());
        if (on_bytes)
            on_bytes(bytes.size());
        return {};
    }));
    std::array<std::uint8_t, 32> sum{};
    crypto_hash_sha256_final(&state, sum.data());
    return sum;
}

Result<std::vector<SetDirectory>> list_sets(const std::string& directory) {
    std::vector<SetDirectory> found;
    for (const auto& version : TRY(names_in(directory))) {
        if (!is_version(version))
            continue;
        auto arches = names_in(directory + "/" + version);
        if (!arches)
            continue; // no directory, or none of ours to read
        for (const auto& arch : *arches) {
            const auto path = directory + "/" + version + "/" + arch;
            struct stat status {};
            if (!is_arch(arch) || !is_file(path + "/" + std::string(list_name), status))
                continue;
            SetDirectory one;
            one.version = version;
            one.arch = arch;
            if (auto text =
                    read_text(path + "/" + std::string(record_name), limits::max_set_list_bytes))
                if (auto record = parse_record(*text))
                    one.record = *std::move(record);
            for (const auto& name : TRY(names_in(path)))
                if (is_file(path + "/" + name, status)) {
                    one.bytes += static_cast<std::uint64_t>(status.st_size);
                    ++one.files;
                }
            found.push_back(std::move(one));
        }
    }
    return found;
}

Result<std::vector<NamedKey>> keys_for(const std::string& directory, const std::string& version) {
    std::vector<std::string> names;
    if (version == "snapshots") {
        for (const auto& name : TRY(names_in(directory)))
            if (name.starts_with("openbsd-") && name.ends_with("-base.pub"))
                names.push_back(name);
    } else {
        auto digits = version;
        std::erase(digits, '.');
        names.push_back(fmt::format("openbsd-{}-base.pub", digits));
    }
    std::vector<NamedKey> keys;
    for (const auto& name : names) {
        const auto path = directory + "/" + name;
        auto text = read_text(path, limits::max_signify_key_bytes);
        if (!text && text.error().kind() == ErrorKind::not_found)
            return fail(ErrorKind::not_found,
                        "there is no key {}: take it from an OpenBSD system's /etc/signify, or "
                        "from a place you trust",
                        printable(path));
        auto key = parse_public_key(TRY(std::move(text)));
        if (!key)
            return std::unexpected(std::move(key).error().in(printable(path)));
        keys.push_back({name, *key});
    }
    if (keys.empty())
        return fail(ErrorKind::not_found, "there is no key openbsd-*-base.pub in {}",
                    printable(directory));
    return keys;
}

Result<SignedSums> verify_sums(std::string_view signed_text, const std::vector<NamedKey>& keys) {
    // The number only finds the key; the signature is what counts.
    auto number = signer_of(signed_text);
    auto key = std::ranges::find_if(
        keys, [&](const NamedKey& one) { return number && one.key.number == *number; });
    if (key == keys.end())
        key = keys.begin();
    auto message = TRY(verify_signed(signed_text, key->key));
    auto sums = TRY(parse_sums(message));
    return SignedSums{key->name, std::move(sums)};
}

Result<Verified> verify_sets(const std::string& directory, const std::string& version,
                             const std::string& arch, const std::string& keys,
                             const OnBytes& on_bytes) {
    const auto path = directory + "/" + version + "/" + arch + "/";
    auto text = TRY(read_text(path + std::string(list_name), limits::max_set_list_bytes));
    auto found_keys = TRY(keys_for(keys, version));
    auto sums = verify_sums(text, found_keys);
    if (!sums)
        return std::unexpected(std::move(sums).error().in(path + std::string(list_name)));
    Verified verified;
    verified.key = sums->key;
    std::vector<std::string> fetched;
    if (auto record_bytes = read_text(path + std::string(record_name), limits::max_set_list_bytes))
        fetched = TRY(parse_record(*record_bytes)).files;
    for (const auto& sum : sums->sums) {
        struct stat status {};
        if (!is_file(path + sum.name, status)) {
            if (std::ranges::find(fetched, sum.name) != fetched.end())
                verified.missing.push_back(sum.name);
            continue;
        }
        if (TRY(sha256_of(path + sum.name, on_bytes)) != sum.sha256) {
            verified.bad.push_back(sum.name);
            continue;
        }
        ++verified.files;
        verified.bytes += static_cast<std::uint64_t>(status.st_size);
    }
    return verified;
}

} // namespace vmhost::sets
