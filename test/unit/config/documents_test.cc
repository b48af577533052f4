// The schema, vmhost.toml(5) and the examples say the same.
#include "helpers.h"

#include <fstream>
#include <map>
#include <set>
#include <sstream>

using namespace vmhost;
using namespace vmhost::config;

namespace {

std::string source(const std::string& path) {
    std::ifstream file(std::string(VMHOST_SOURCE_ROOT) + "/" + path);
    REQUIRE(file);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

// Keys per table as the page has them: ".Ss Table [vm.NAME.disk]" begins a table,
// ".It Ic path" is a key.
std::map<std::string, std::set<std::string>> keys_of_page() {
    std::map<std::string, std::set<std::string>> out;
    std::istringstream page(source("man/vmhost.toml.5"));
    std::string line, table;
    while (std::getline(page, line)) {
        if (line.starts_with(".Sh ") || line.starts_with(".Ss "))
            table.clear();
        if (line.starts_with(".Ss Table ")) {
            auto open = line.find('['), close = line.find(']');
            REQUIRE(close != std::string::npos);
            table = line.substr(open + 1, close - open - 1);
        }
        if (line.starts_with(".It Ic ") && !table.empty()) {
            auto key = line.substr(7);
            key = key.substr(0, key.find(' '));
            INFO(table << " " << key);
            CHECK(out[table].insert(key).second);
        }
    }
    return out;
}

} // namespace

TEST_CASE("vmhost.toml(5) has exactly the keys of the schema") {
    std::map<std::string, std::set<std::string>> schema;
    for (const auto& key : keys())
        schema[key.table].insert(key.key);
    auto page = keys_of_page();
    for (const auto& [table, known] : schema) {
        INFO(table);
        CHECK(page[table] == known);
    }
    CHECK(page.size() == schema.size());
}

TEST_CASE("every key has a type, a default and help") {
    std::set<std::string> tables;
    for (const auto& key : keys()) {
        INFO(key.table << "." << key.key);
        CHECK_FALSE(key.type.empty());
        CHECK_FALSE(key.default_text.empty());
        CHECK_FALSE(key.help.empty());
        tables.insert(key.table);
    }
    CHECK(tables == std::set<std::string>{"allocate",
                                          "host",
                                          "host.start",
                                          "host.local",
                                          "control",
                                          "install",
                                          "install.location",
                                          "install.site",
                                          "install.site.files",
                                          "metrics",
                                          "switch.NAME",
                                          "switch.NAME.dhcp",
                                          "switch.NAME.dhcp.class.NAME",
                                          "switch.NAME.dhcp6",
                                          "switch.NAME.ports",
                                          "switch.NAME.ra",
                                          "switch.NAME.storm",
                                          "switch.NAME.vxlan",
                                          "tftp",
                                          "vm.NAME",
                                          "vm.NAME.dhcp",
                                          "vm.NAME.console_log",
                                          "vm.NAME.allow_instance",
                                          "vm.NAME.disk",
                                          "vm.NAME.disk.limit",
                                          "vm.NAME.interface",
                                          "vm.NAME.interface.limit",
                                          "vm.NAME.install",
                                          "vm.NAME.install.site",
                                          "vm.NAME.install.site.files"});
}

TEST_CASE("defaults in the schema are those of an empty table") {
    // A default that is a value is also what the parser fills in.
    auto model = good("[switch.s]\nvxlan = { id = 7, local = \"192.0.2.1\" }\n"
                      "[vm.a]\ndisk = [{ path = \"x\", limit = {} }]\n"
                      "interface = [{ switch = \"s\", limit = {} }]\ninstall = {}\n"
                      "allow_instance = {}\n"
                      "[[install.location]]\npath = \"/*\"\ndirectory = \"/srv\"\n"
                      "[install]\nlisten = [\"10.0.0.1:80\"]\nsets = \"/srv\"\n"
                      "site = { files = [{ path = \"x\", content = \"y\" }] }");
    auto text = "\n" + print(model);
    for (const auto& key : keys()) {
        const auto& value = key.default_text;
        bool is_value = value.starts_with('"') || value == "true" || value == "false" ||
                        value == "[]" || (value[0] >= '0' && value[0] <= '9');
        if (!is_value || value.find(' ') != std::string::npos)
            continue;
        INFO(key.table << "." << key.key);
        CHECK(text.find(fmt::format("\n{} = {}\n", key.key, value)) != std::string::npos);
    }
}

TEST_CASE("the page gives every default that is a value") {
    std::istringstream page(source("man/vmhost.toml.5"));
    std::stringstream all;
    all << page.rdbuf();
    for (const auto& key : keys())
        if (key.default_text.starts_with('"') && key.default_text.size() > 2) {
            auto value = key.default_text.substr(1, key.default_text.size() - 2);
            INFO(key.table << "." << key.key << " " << value);
            CHECK(all.str().find(value) != std::string::npos);
        }
}

TEST_CASE("the examples are accepted and complete") {
    for (auto path : {"conf/vmhost.toml", "conf/first-guest.toml"}) {
        INFO(path);
        auto model = good(source(path));
        CHECK(good(print(model)).vms == model.vms);
    }
    // The long one shows every key.
    auto text = source("conf/vmhost.toml");
    for (const auto& key : keys()) {
        INFO(key.table << "." << key.key);
        bool shown = text.find(key.key + " =") != std::string::npos ||
                     text.find("." + key.key + "]") != std::string::npos;
        CHECK(shown);
    }
}

TEST_CASE("the examples of the page are accepted") {
    std::istringstream page(source("man/vmhost.toml.5"));
    std::string line, example;
    bool inside = false;
    int count = 0;
    while (std::getline(page, line)) {
        if (line.starts_with(".Bd -literal")) {
            inside = true;
            example.clear();
        } else if (line.starts_with(".Ed") && inside) {
            inside = false;
            ++count;
            good(example);
        } else if (inside) {
            std::string plain; // mdoc writes \e for a backslash and \(dq or " for a quote
            for (std::size_t i = 0; i < line.size(); ++i)
                if (line.compare(i, 2, "\\e") == 0) {
                    plain += '\\';
                    ++i;
                } else if (line.compare(i, 2, "\\&") == 0) {
                    ++i;
                } else if (line.compare(i, 2, "\\-") == 0) {
                    plain += '-';
                    ++i;
                } else {
                    plain += line[i];
                }
            example += plain + "\n";
        }
    }
    CHECK(count >= 3);
}
