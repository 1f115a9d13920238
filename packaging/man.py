#!/usr/bin/env python3
"""man.py VERSION DATE FOLDER < dump: writes cloudmount.1 and one page for each command, of `cloudmount --experimental-dump-help`."""
import json
import sys


def roff(text):
    """Running text: what troff would take for its own is escaped, and what is no ASCII, which it takes for Latin-1."""
    lines = []
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(char if ord(char) < 128 else f"\\[u{ord(char):04X}]" for char in text)
    for line in text.splitlines():
        lines.append("\\&" + line if line[:1] in (".", "'") else line)
    return "\n".join(lines)


def paragraphs(text):
    out = []
    for part in text.split("\n\n"):
        # What is indented stays as it is written.
        if all(line.startswith("  ") for line in part.splitlines()):
            out.append(".PP\n.nf\n" + roff(part) + "\n.fi")
        else:
            out.append(".PP\n" + roff(part))
    return "\n".join(out)


def names(argument):
    short = ["-" + name["name"] for name in argument.get("names") or [] if name["kind"] != "long"]
    return short + ["--" + name["name"] for name in argument.get("names") or [] if name["kind"] == "long"]


def synopsis(argument):
    value = "\\fI" + roff(argument.get("valueName", "value")) + "\\fR"
    if argument["kind"] == "positional":
        word = value
    else:
        word = "\\fB" + roff(names(argument)[0]) + "\\fR" + (" " + value if argument["kind"] == "option" else "")
    if argument.get("isRepeating"):
        word += "..."
    return "[" + word + "]" if argument.get("isOptional", True) else word


def described(argument):
    value = "\\fI" + roff(argument.get("valueName", "value")) + "\\fR"
    if argument["kind"] == "positional":
        head = value
    else:
        tail = " " + value if argument["kind"] == "option" else ""
        head = ", ".join("\\fB" + roff(name) + "\\fR" + tail for name in names(argument))
    text = argument.get("abstract", "")
    default = argument.get("defaultValue")
    if default and "(default" not in text:
        text += f" (default: {default})"
    return ".TP\n" + head + "\n" + roff(text or "\\&")


def page(title, name, command, version, date, body):
    arguments = [a for a in command.get("arguments", []) if a.get("shouldDisplay", True)]
    out = [f'.TH {title.upper()} 1 "{date}" "cloudmount {version}" "CloudMount"', ".SH NAME"]
    out.append(roff(title) + " \\- " + roff(command.get("abstract", "").rstrip(".").replace("Mounts", "mounts", 1)))
    out += [".SH SYNOPSIS", "\\fB" + roff(name) + "\\fR " + " ".join(synopsis(a) for a in arguments) + body["synopsis"]]
    out.append(".SH DESCRIPTION")
    out.append(paragraphs(command.get("discussion") or command.get("abstract", "")))
    if arguments:
        out.append(".SH OPTIONS")
        out += [described(a) for a in arguments]
    out += body["more"]
    return "\n".join(out) + "\n"


def main():
    version, date, folder = sys.argv[1:]
    root = json.load(sys.stdin)["command"]
    commands = [c for c in root["subcommands"] if c["commandName"] != "help" and c.get("shouldDisplay", True)]
    listed = [".SH COMMANDS"]
    for command in commands:
        title = "cloudmount-" + command["commandName"]
        listed.append(".TP\n\\fB" + roff(title) + "\\fR(1)\n" + roff(command.get("abstract", "")))
        body = {"synopsis": "", "more": [".SH SEE ALSO", "\\fBcloudmount\\fR(1)"]}
        with open(f"{folder}/{title}.1", "w", encoding="ascii") as file:
            file.write(page(title, "cloudmount " + command["commandName"], command, version, date, body))
    files = [
        ".SH FILES",
        ".TP\n\\fI/etc/cloudmount/mounts.yaml\\fR, \\fI~/.config/cloudmount/mounts.yaml\\fR",
        "The configuration; /usr/share/doc/cloudmount/examples/mounts.yaml names every key.",
        ".SH SEE ALSO", "\\fBmount.cloudmount\\fR(8)",
    ]
    body = {"synopsis": "\\fIcommand\\fR ...", "more": listed + files}
    with open(f"{folder}/cloudmount.1", "w", encoding="ascii") as file:
        file.write(page("cloudmount", "cloudmount", root, version, date, body))


main()
