// swift run -c release extent-bench [EXTENTS] [SEED]
//
// Writes of 4 KiB at random places of a file of 100 GiB, into an `ExtentMap` and into a `FileImage`, a copy of which is
// taken every 10,000 writes as a commit does: how long each tenth takes.
import CloudMountStaging
import CloudMountVFS
import TestSeeds

let arguments = CommandLine.arguments.dropFirst().compactMap { Int($0) }
let count = max(10, arguments.first ?? 1_000_000)
let seed = arguments.count > 1 ? UInt64(clamping: arguments[1]) : 1
let blocks = (100 << 30) / 4096

func measure(_ name: String, _ write: (Extent) -> Void) {
    var generator = SeededGenerator(seed: seed)
    let clock = ContinuousClock()
    var times: [Duration] = []
    for _ in 0..<10 {
        times.append(
            clock.measure {
                for _ in 0..<count / 10 {
                    write(Extent(offset: Int.random(in: 0..<blocks, using: &generator) * 4096, count: 4096))
                }
            })
    }
    let milliseconds = times.map { String(Int($0 / .milliseconds(1))) }.joined(separator: " ")
    print("\(name): \(milliseconds) ms; last / first \(times[9] / times[0])")
}

print("\(count) writes, seed \(seed); each tenth of them:")
var map = ExtentMap()
measure("ExtentMap") { map.insert($0) }
var image = FileImage(size: 100 << 30, baseSize: 100 << 30)
var snapshot = image
var writes = 0
measure("FileImage") { extent in
    image.write(extent)
    writes += 1
    if writes.isMultiple(of: 10_000) { snapshot = image }
}
let pieces = ContinuousClock().measure { writes = image.pieces(in: Extent(0, image.size)).count }
print("\(writes) pieces in \(Int(pieces / .milliseconds(1))) ms; \(snapshot.dirty.total) bytes in the last copy")
