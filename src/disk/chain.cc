// An image and the files below it: found by name in the parent, which opens and locks them;
// put together from descriptors in the process that uses them.
#include <algorithm>
#include <cctype>

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

// Names in an image are relative to the image's directory.
std::string beside(const std::string& image, const std::string& name) {
    auto slash = image.rfind('/');
    if (name.starts_with('/') || slash == std::string::npos)
        return name;
    return image.substr(0, slash + 1) + name;
}

bool ends_with_word(std::string_view text, std::string_view word) {
    return text.size() >= word.size() &&
           std::ranges::equal(text.substr(text.size() - word.size()), word, [](char a, char b) {
               return std::tolower(static_cast<unsigned char>(a)) == b;
           });
}

std::optional<Format> format_by_extension(std::string_view path) {
    if (ends_with_word(path, ".qcow2"))
        return Format::qcow2;
    if (ends_with_word(path, ".raw"))
        return Format::raw;
    return std::nullopt;
}

// False also for what cannot be opened: whoever uses it next says why.
bool begins_like_qcow2(const std::string& path) {
    auto file = open_image(path, true);
    std::uint8_t raw[4];
    return file && ::pread(file->get(), raw, sizeof(raw), 0) == sizeof(raw) &&
           load_be<std::uint32_t>(Bytes(raw)) == qcow2::magic;
}

Result<Format> format_below(const qcow2::Header& header, const std::string& path) {
    if (!header.backing_format || *header.backing_format == "qcow2")
        return Format::qcow2; // vmctl(8) of OpenBSD writes none, and means this
    if (*header.backing_format == "raw")
        return Format::raw;
    return fail(ErrorKind::unsupported, "image {}: its backing file is of format \"{}\"", path,
                printable(*header.backing_format, 40));
}

} // namespace

std::string_view name_of(Format format) {
    return format == Format::raw ? "raw" : "qcow2";
}

Result<ImageName> decide_format(const std::string& text) {
    for (auto format : {Format::raw, Format::qcow2}) {
        auto prefix = std::string(name_of(format)) + ":";
        if (text.starts_with(prefix)) {
            if (text.size() == prefix.size())
                return fail(ErrorKind::invalid, "image \"{}\": the name is missing", text);
            return ImageName{format, text.substr(prefix.size())};
        }
    }
    if (text.empty())
        return fail(ErrorKind::invalid, "an image's name is missing");
    if (begins_like_qcow2(text))
        return ImageName{Format::qcow2, text};
    return ImageName{format_by_extension(text).value_or(Format::raw), text};
}

Result<Format> format_of_guest_disk(const std::string& path) {
    auto format = format_by_extension(path).value_or(Format::raw);
    if (format == Format::raw && begins_like_qcow2(path))
        return fail(ErrorKind::invalid,
                    "image {}: it is called raw but begins like qcow2; say which with format =",
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
        if (format == Format::raw)
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
        path = beside(path, header.backing_file);
    }
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
        if (layer.format == Format::raw) {
            if (image)
                return fail(ErrorKind::invalid, "image {}: a raw image has no backing file",
                            layer.name);
            image = TRY(open_raw(std::move(layer.file), only_read, std::move(layer.name)));
        } else {
            image = TRY(qcow2::open(file_storage(std::move(layer.file), std::move(layer.name)),
                                    std::move(image), only_read));
        }
    }
    return image;
}

} // namespace vmhost::disk
