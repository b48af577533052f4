// An image and the files below it: found by name in the parent, which opens and locks them;
// put together from descriptors in the process that uses them.
#include <algorithm>
#include <cctype>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/base.h"
#include "disk/disk.h"
#include "disk/qcow2/image.h"

namespace vmhost::disk {

namespace {

struct Identity {
    dev_t device;
    ino_t inode;
    bool operator==(const Identity&) const = default;
};

bool ends_with_word(std::string_view text, std::string_view word) {
    return text.size() >= word.size() &&
           std::ranges::equal(text.substr(text.size() - word.size()), word, [](char a, char b) {
               return std::tolower(static_cast<unsigned char>(a)) == b;
           });
}

bool begins_like_qcow2(const Fd& file) {
    std::uint8_t raw[4];
    return ::pread(file.get(), raw, sizeof(raw), 0) == sizeof(raw) &&
           load_be<std::uint32_t>(Bytes(raw)) == qcow2::magic;
}

Result<Format> format_below(const qcow2::Header& header, const std::string& path) {
    if (!header.backing_format || *header.backing_format == "qcow2")
        return Format::qcow2; // vmctl(8) of OpenBSD writes none, and means this
    for (auto format : {Format::raw, Format::zst})
        if (*header.backing_format == name_of(format))
            return format;
    return fail(ErrorKind::unsupported, "image {}: its backing file is of format \"{}\"", path,
                printable(*header.backing_format, 40));
}

} // namespace

std::string path_beside(const std::string& image, const std::string& name) {
    auto slash = image.rfind('/');
    if (name.starts_with('/') || slash == std::string::npos)
        return name;
    return image.substr(0, slash + 1) + name;
}

std::string name_from(const std::string& image, const std::string& base) {
    auto folder = std::filesystem::path(image).parent_path().lexically_normal();
    auto relative = std::filesystem::path(base).lexically_normal().lexically_relative(folder);
    return relative.empty() || *relative.begin() == ".." ? base : relative.string();
}

std::optional<Format> format_of_name(std::string_view path) {
    if (ends_with_word(path, ".qcow2"))
        return Format::qcow2;
    if (ends_with_word(path, ".raw"))
        return Format::raw;
    if (ends_with_word(path, ".zst"))
        return Format::zst;
    return std::nullopt;
}

std::string_view name_of(Format format) {
    return format == Format::raw ? "raw" : format == Format::qcow2 ? "qcow2" : "zst";
}

Result<ImageName> decide_format(const std::string& text, const std::string& beside) {
    for (auto format : {Format::raw, Format::qcow2, Format::zst}) {
        auto prefix = std::string(name_of(format)) + ":";
        if (text.starts_with(prefix)) {
            if (text.size() == prefix.size())
                return fail(ErrorKind::invalid, "image \"{}\": the name is missing", text);
            return ImageName{format, text.substr(prefix.size())};
        }
    }
    if (text.empty())
        return fail(ErrorKind::invalid, "an image's name is missing");
    // What cannot be opened, whoever uses it next says why.
    if (auto file = open_image(path_beside(beside, text), true); file && begins_like_qcow2(*file))
        return ImageName{Format::qcow2, text};
    return ImageName{format_of_name(text).value_or(Format::raw), text};
}

Result<Format> format_of_guest_disk(const Fd& file, const std::string& path) {
    auto format = format_of_name(path).value_or(Format::raw);
    if (format == Format::raw && begins_like_qcow2(file))
        return fail(ErrorKind::invalid,
                    "image {}: by its name it is raw, but it begins like qcow2; say which it is "
                    "with format = \"raw\" or \"qcow2\"",
                    printable(path));
    return format;
}

Result<std::vector<Layer>> open_chain(const std::string& image, Format format, bool read_only,
                                      bool allow_backing) {
    std::vector<Layer> layers;
    std::vector<Identity> seen;
    auto path = image;
    for (;;) {
        if (layers.size() == limits::max_image_layers)
            return fail(ErrorKind::limit, "image {}: more than {} files lie on each other",
                        printable(image), limits::max_image_layers);
        bool only_read = read_only || !layers.empty();
        auto shown = printable(path, 1024);
        auto file = TRY(open_image(path, only_read));
        struct stat status {};
        if (::fstat(file.get(), &status) != 0)
            return fail_errno(errno, "image {}: stat", shown);
        Identity identity{status.st_dev, status.st_ino};
        if (std::ranges::find(seen, identity) != seen.end())
            return fail(ErrorKind::corrupt, "image {}: it is its own backing file",
                        printable(image));
        seen.push_back(identity);
        TRY(lock_image(file, only_read, shown));
        auto storage = file_storage(TRY(file.duplicate()), shown);
        layers.push_back({std::move(file), format, shown});
        if (format != Format::qcow2)
            return layers;
        auto header = TRY(qcow2::read_header(*storage, only_read));
        if (header.backing_file.empty())
            return layers;
        if (!allow_backing)
            return fail(ErrorKind::denied,
                        "image {}: it names the backing file {}, and only an image that is "
                        "configured to have one may",
                        shown, printable(header.backing_file));
        format = TRY(format_below(header, shown));
        path = path_beside(path, header.backing_file);
    }
}

// What the image above says of the file below it, compared with the configuration.
Result<Format> agree_on_base(const std::string& above, const qcow2::Header& header,
                             const ConfiguredLayer& below) {
    using std::filesystem::path;
    auto shown = printable(above, 1024), wanted = printable(below.path, 1024);
    if (header.backing_file.empty())
        return fail(ErrorKind::invalid,
                    "image {}: it names no backing file, but the configuration names {}", shown,
                    wanted);
    auto named = path(path_beside(above, header.backing_file)).lexically_normal();
    if (named != path(below.path).lexically_normal())
        return fail(ErrorKind::denied,
                    "image {}: it names the backing file {}, but the configuration names {}", shown,
                    printable(named.string(), 1024), wanted);
    auto format = below.format ? *below.format : TRY(format_below(header, shown));
    if (header.backing_format && *header.backing_format != name_of(format))
        return fail(ErrorKind::invalid,
                    "image {}: it says that its backing file {} is of format \"{}\", not \"{}\"",
                    shown, wanted, printable(*header.backing_format, 40), name_of(format));
    return format;
}

Result<std::unique_ptr<Image>> Image::open_configured(std::vector<ConfiguredLayer> configured,
                                                      bool read_only) {
    std::vector<Layer> layers;
    for (std::size_t i = 0; i < configured.size(); ++i) {
        auto& [file, format, path] = configured[i];
        auto shown = printable(path, 1024);
        auto is = format.value_or(Format::raw); // above all others, raw unless told; see below
        auto* below = i + 1 < configured.size() ? &configured[i + 1] : nullptr;
        if (is == Format::qcow2) {
            auto storage = file_storage(TRY(file.duplicate()), shown);
            auto header = TRY(qcow2::read_header(*storage, read_only || i > 0));
            if (below != nullptr)
                below->format = TRY(agree_on_base(path, header, *below));
            else if (!header.backing_file.empty())
                return fail(ErrorKind::denied,
                            "image {}: it names the backing file {}, which the configuration does "
                            "not name: base = is missing or too short",
                            shown, printable(header.backing_file, 1024));
        } else if (below != nullptr) {
            return fail(ErrorKind::invalid,
                        "image {}: it is {} and has no backing file, but the configuration names "
                        "{}",
                        shown, name_of(is), printable(below->path, 1024));
        }
        layers.push_back({std::move(file), is, shown});
    }
    return open(std::move(layers), read_only);
}

Result<std::unique_ptr<Image>> Image::open(std::vector<Layer> layers, bool read_only) {
    if (layers.empty() || layers.size() > limits::max_image_layers)
        return fail(ErrorKind::limit, "an image of {} files: 1 to {} are possible", layers.size(),
                    limits::max_image_layers);
    std::unique_ptr<Image> image;
    while (!layers.empty()) {
        auto layer = std::move(layers.back());
        layers.pop_back();
        bool only_read = read_only || !layers.empty();
        if (layer.format != Format::qcow2 && image)
            return fail(ErrorKind::invalid, "image {}: a {} image has no backing file", layer.name,
                        name_of(layer.format));
        if (layer.format == Format::zst) {
            if (!only_read)
                return fail(ErrorKind::invalid, "image {}: a compressed image is read-only",
                            layer.name);
            image = TRY(open_zst(std::move(layer.file), std::move(layer.name)));
        } else if (layer.format == Format::raw) {
            image = TRY(open_raw(std::move(layer.file), only_read, std::move(layer.name)));
        } else {
            image = TRY(qcow2::open(file_storage(std::move(layer.file), std::move(layer.name)),
                                    std::move(image), only_read));
        }
    }
    return image;
}

} // namespace vmhost::disk
