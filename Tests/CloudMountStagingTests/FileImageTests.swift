import CloudMountStaging
import CloudMountVFS
import TestSeeds
import Testing

@Suite("FileImage")
struct FileImageTests {
    @Test("An image that nobody touched is its base")
    func untouched() {
        let image = FileImage(size: 100, baseSize: 100)
        #expect(image.isWholeBase && !image.isDirty && image.needsBase)
        #expect(image.pieces(in: Extent(10, 200)) == [.base(Extent(10, 100))])
        #expect(image.data(from: 50) == 50)
        #expect(image.hole(from: 50) == 100)
        #expect(image.data(from: 100) == nil)
        #expect(image.hole(from: 100) == nil)
    }

    @Test("What was cut off stays zeros when the file grows again")
    func cutAndGrow() {
        var image = FileImage(size: 100, baseSize: 100)
        image.truncate(to: 40)
        image.extend(to: 100)
        #expect(image.isDirty)
        #expect(image.pieces(in: Extent(0, 100)) == [.base(Extent(0, 40)), .zero(Extent(40, 100))])
        #expect(image.hole(from: 0) == 40)
        #expect(image.data(from: 40) == nil)
    }

    @Test("A write beyond the end leaves zeros between")
    func sparseWrite() {
        var image = FileImage(size: 0, baseSize: 0)
        image.write(Extent(50, 60))
        #expect(image.size == 60)
        #expect(image.pieces(in: Extent(0, 60)) == [.zero(Extent(0, 50)), .staged(Extent(50, 60))])
        #expect(image.data(from: 0) == 50)
        #expect(!image.needsBase)
    }

    @Test("A hole over base bytes needs no bytes and can be written again")
    func punched() {
        var image = FileImage(size: 100, baseSize: 100)
        image.zero(Extent(20, 60))
        image.write(Extent(30, 40))
        #expect(
            image.pieces(in: Extent(10, 70)) == [
                .base(Extent(10, 20)), .zero(Extent(20, 30)), .staged(Extent(30, 40)), .zero(Extent(40, 60)),
                .base(Extent(60, 70)),
            ])
        #expect(image.dirty.total == 10)
    }

    @Test("Zeros up to the base's end lower the limit of the base")
    func zeroTail() {
        var image = FileImage(size: 100, baseSize: 100)
        image.zero(Extent(70, 100))
        #expect(image.baseLimit == 70)
        #expect(image.zeros.isEmpty)
        image.zero(Extent(20, 30))
        image.truncate(to: 30)
        #expect(image.baseLimit == 20)
        #expect(image.zeros.isEmpty)
    }

    @Test("Random operations agree with an array of bytes", arguments: seeds(200, "FileImage"))
    func bytes(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let baseSize = Int.random(in: 0...200, using: &generator)
        // Bytes tell where they are from: 1 to 99 the base, 101 to 199 what was written, 0 a hole.
        let base = (0..<baseSize).map { _ in UInt8.random(in: 1...99, using: &generator) }
        var staged = [UInt8](repeating: 255, count: 400)
        var model = base
        var image = FileImage(size: baseSize, baseSize: baseSize)
        for _ in 0..<60 {
            let start = Int.random(in: 0..<300, using: &generator)
            let extent = Extent(offset: start, count: Int.random(in: 0...50, using: &generator))
            switch Int.random(in: 0..<8, using: &generator) {
            case 0..<4:
                guard !extent.isEmpty else { continue }
                image.write(extent)
                grow(&model, extent.upperBound)
                for index in extent.lowerBound..<extent.upperBound {
                    staged[index] = UInt8.random(in: 101...199, using: &generator)
                    model[index] = staged[index]
                }
            case 4:
                image.truncate(to: start)
                grow(&model, start)
                model.removeSubrange(start...)
            case 5:
                image.extend(to: start)
                grow(&model, start)
            default:
                image.zero(extent)
                for index in extent.lowerBound..<extent.upperBound where index < model.count { model[index] = 0 }
            }
            check(image, model, base, staged, seed, &generator)
        }
    }

    private func grow(_ model: inout [UInt8], _ size: Int) {
        if model.count < size { model += [UInt8](repeating: 0, count: size - model.count) }
    }

    private func check(
        _ image: FileImage, _ model: [UInt8], _ base: [UInt8], _ staged: [UInt8], _ seed: UInt64,
        _ generator: inout SeededGenerator
    ) {
        #expect(image.size == model.count, "seed \(seed)")
        let low = Int.random(in: 0...model.count, using: &generator)
        let asked = Extent(low, Int.random(in: low...model.count, using: &generator))
        for extent in [Extent(0, image.size), asked] {
            var bytes: [UInt8] = []
            var offset = extent.lowerBound
            for piece in image.pieces(in: extent) {
                #expect(piece.extent.lowerBound == offset && !piece.extent.isEmpty, "seed \(seed)")
                offset = piece.extent.upperBound
                let range = piece.extent.lowerBound..<piece.extent.upperBound
                switch piece {
                case .staged: bytes += staged[range]
                case .base: bytes += base[range]
                case .zero: bytes += [UInt8](repeating: 0, count: range.count)
                }
            }
            #expect(bytes == Array(model[extent.lowerBound..<extent.upperBound]), "seed \(seed)")
        }
        // A base or staged byte is never 0 here, so that a zero in the model is a hole.
        #expect(image.data(from: low) == model.indices.first { $0 >= low && model[$0] != 0 }, "seed \(seed)")
        let hole = low >= model.count ? nil : model.indices.first { $0 >= low && model[$0] == 0 } ?? model.count
        #expect(image.hole(from: low) == hole, "seed \(seed)")
        if image.isWholeBase { #expect(model == base, "seed \(seed)") }
        #expect(image.needsBase == model.contains { (1...99).contains($0) }, "seed \(seed)")
        #expect(image.allocated == model.count { $0 != 0 }, "seed \(seed)")
        #expect(image.baseLimit <= min(image.size, image.baseSize), "seed \(seed)")
        #expect(image.dirty.upperBound <= image.size && image.zeros.upperBound <= image.baseLimit, "seed \(seed)")
        #expect(image.zeros.extents.allSatisfy { !image.dirty.overlaps($0) }, "seed \(seed)")
    }
}
