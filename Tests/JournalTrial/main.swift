// swift run -c release journal-trial bench DIRECTORY [SECONDS]
//
// Commits per second to a journal in DIRECTORY, of one caller and of eight: each puts a record of 300 bytes, and removes it.
//
// journal-trial write DIRECTORY
//
// Eight callers put pairs of records, and take some away again, until the process is killed; each line of the output is what was
// acknowledged. For the tests.
import CloudMountCache
import CloudMountVFS
import Glibc

let arguments = CommandLine.arguments.dropFirst()
guard arguments.count >= 2, let command = arguments.first else {
    print("journal-trial bench|write DIRECTORY")
    exit(2)
}
let directory = Array(arguments)[1]
let journal = try Journal(directory: directory)

@Sendable func record(_ id: Int64, _ bytes: Int = 300) -> Journal.Record {
    Journal.Record(
        id: id, mount: "trial", key: ObjectKey("folder/file-\(id)"), staged: "trial-\(id)",
        payload: [UInt8](repeating: UInt8(truncatingIfNeeded: id), count: bytes))
}

func bench(callers: Int, seconds: Int) async throws {
    let before = journal.counts
    let clock = ContinuousClock()
    let start = clock.now
    let end = start + .seconds(seconds)
    try await withThrowingTaskGroup { group in
        for _ in 0..<callers {
            group.addTask {
                while clock.now < end {
                    let id = journal.newID()
                    try await journal.commit([.put(record(id))])
                    try await journal.commit([.remove(id)])
                }
            }
        }
        try await group.waitForAll()
    }
    let time = (clock.now - start) / .seconds(1)
    let commits = journal.counts.commits - before.commits
    let transactions = journal.counts.transactions - before.transactions
    print(
        "\(callers) callers: \(Int(Double(commits) / time)) commits/s in \(Int(Double(transactions) / time)) transactions/s"
    )
}

/// The records of a pair have one key, which names both ids.
@Sendable func write(seed: Int64) async throws {
    var count = seed
    while true {
        var pair = [record(journal.newID(), Int(count % 5000)), record(journal.newID(), 10)]
        for index in pair.indices { pair[index].key = ObjectKey("\(pair[0].id) \(pair[1].id)") }
        try await journal.commit(pair.map { .put($0) })
        tell("+ \(pair[0].key)\n")
        if count % 3 == 0 {
            // What is not acknowledged any more.
            tell("? \(pair[0].key)\n")
            try await journal.commit(pair.map { .remove($0.id) })
            tell("- \(pair[0].key)\n")
        }
        count += 1
    }
}

/// At once and whole: a line of less than a pipe's least atomic size.
@Sendable func tell(_ text: String) {
    let bytes = Array(text.utf8)
    _ = Glibc.write(1, bytes, bytes.count)
}

if command == "write" {
    try await withThrowingTaskGroup { group in
        for seed in 0..<8 { group.addTask { try await write(seed: Int64(seed) * 700) } }
        try await group.waitForAll()
    }
} else {
    for callers in [1, 8] {
        try await bench(callers: callers, seconds: arguments.count > 2 ? Int(Array(arguments)[2]) ?? 3 : 3)
    }
}
journal.close()
