package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// format is the version of the file. A release that another could not read raises it.
const format = 1

// A backup is a tar file: copies of streams in pieces, each <stream>/<part>/<number>, then the manifest and its checksum. What has no checksum at its end was
// cut short.
const (
	pieceBytes   = 4 << 20 // of a copy, since a tar file must say how long what follows is
	manifestName = "manifest.json"
	sumName      = "manifest.sha256"
	maxManifest  = 1 << 20 // bytes
)

// Parts of an asset.
const (
	partCopy  = "copy"  // the server's copy
	partRest  = "rest"  // what was written while it was made
	partLater = "later" // what was written until all others were copied
)

// Manifest says what is in a backup.
type Manifest struct {
	Format     int       `json:"format"`
	Layout     int       `json:"layout"`
	Partitions int       `json:"partitions"`
	Version    string    `json:"version"`  // of the program that wrote it
	Began      time.Time `json:"began"`    // everything that was acknowledged before is in the backup
	Ended      time.Time `json:"ended"`    // nothing that came after is
	Replicas   int       `json:"replicas"` // of the store
	DedupeMS   int64     `json:"dedupe_ms"`
	MaxBytes   int64     `json:"max_bytes,omitempty"` // of each stream of messages; 0 = no bound
	Assets     []Asset   `json:"assets"`
}

// Asset is one stream in a backup.
type Asset struct {
	Stream string `json:"stream"`
	Parts  []Part `json:"parts"`
}

// Part is one part of an asset.
type Part struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	Last   uint64 `json:"last_seq"` // the stream's last sequence when the part ended
}

// Errors of files.
var (
	// ErrCutShort means that a file ends before its manifest: whoever wrote it did not come to the end.
	ErrCutShort = errors.New("the backup was cut short: it has no manifest")
	// ErrDamaged means that what a file holds is not what was written; the error names the part.
	ErrDamaged = errors.New("the backup is damaged")
	// ErrNewer means that a newer release wrote the file, in a form that this one does not know.
	ErrNewer = errors.New("the backup is of a newer release")
)

// writer writes a backup beside the place that it will have, so that nothing with its name is ever half a backup.
type writer struct {
	file *os.File
	tar  *tar.Writer
	path string
}

// newWriter begins a file that only its owner can read: the hashes of passwords and the keys of tokens are in it. It never overwrites one.
func newWriter(name string) (*writer, error) {
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return nil, fmt.Errorf("write the backup %s: %w", name, err)
	}
	file, err := os.OpenFile(name+".partial", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		err = file.Chmod(0o600) // one that was left by a backup before
	}
	if err != nil {
		return nil, fmt.Errorf("write the backup: %w", err)
	}
	return &writer{file, tar.NewWriter(file), name}, nil
}

// entry writes one file of the tar.
func (w *writer) entry(name string, data []byte) error {
	err := w.tar.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(data)), Format: tar.FormatUSTAR})
	if err == nil {
		_, err = w.tar.Write(data)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// end writes the manifest, and gives the file its name once it is on the disk.
func (w *writer) end(m Manifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	sum := sha256.Sum256(data)
	err = errors.Join(w.entry(manifestName, data), w.entry(sumName, []byte(hex.EncodeToString(sum[:])+"\n")), w.tar.Close(), w.file.Sync(), w.file.Close())
	if err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	if err := os.Rename(w.path+".partial", w.path); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	return syncDir(filepath.Dir(w.path))
}

// abandon removes what was written.
func (w *writer) abandon() {
	_ = w.file.Close()
	_ = os.Remove(w.file.Name())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// part is where one part of an asset is written to.
type part struct {
	w      *writer
	prefix string
	buffer bytes.Buffer
	sum    hash.Hash
	bytes  int64
	pieces int
}

func (w *writer) part(stream, name string) *part {
	return &part{w: w, prefix: stream + "/" + name + "/", sum: sha256.New()}
}

// Write takes bytes of the part.
func (p *part) Write(data []byte) (int, error) {
	p.sum.Write(data)
	p.bytes += int64(len(data))
	p.buffer.Write(data)
	for p.buffer.Len() >= pieceBytes {
		if err := p.piece(p.buffer.Next(pieceBytes)); err != nil {
			return 0, err
		}
	}
	return len(data), nil
}

func (p *part) piece(data []byte) error {
	p.pieces++
	return p.w.entry(fmt.Sprintf("%s%06d", p.prefix, p.pieces), data)
}

// end writes what is left and returns what the manifest says of the part.
func (p *part) end(last uint64) (Part, error) {
	if err := p.piece(p.buffer.Bytes()); err != nil {
		return Part{}, err
	}
	return Part{Name: path.Base(p.prefix), Bytes: p.bytes, SHA256: hex.EncodeToString(p.sum.Sum(nil)), Last: last}, nil
}

// File is a backup that was found whole.
type File struct {
	Manifest Manifest
	file     *os.File
	pieces   map[string][]piece // by stream/part
}

type piece struct{ offset, size int64 }

// Open reads a whole backup once and returns it if it is what was written: ErrCutShort, ErrDamaged or ErrNewer otherwise. Close it.
func Open(name string) (*File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the backup: %w", err)
	}
	f := &File{file: file, pieces: map[string][]piece{}}
	if err := f.check(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), file.Close())
	}
	return f, nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// check reads the file to its end and compares every checksum.
func (f *File) check() error {
	sums := map[string]hash.Hash{}
	sizes := map[string]int64{}
	var manifest, sum []byte
	in := tar.NewReader(f.file)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return fmt.Errorf("%w: %w", ErrCutShort, err)
			}
			return fmt.Errorf("%w: behind %d whole parts: %w", ErrDamaged, len(sums), err)
		}
		switch header.Name {
		case manifestName, sumName:
			data, err := io.ReadAll(io.LimitReader(in, maxManifest))
			if err != nil {
				return fmt.Errorf("%w: %w", ErrCutShort, err)
			}
			if header.Name == manifestName {
				manifest = data
			} else {
				sum = data
			}
			continue
		}
		offset, err := f.file.Seek(0, io.SeekCurrent) // the reader of tar files reads no byte too many
		if err != nil {
			return err
		}
		key := path.Dir(header.Name)
		if sums[key] == nil {
			sums[key] = sha256.New()
		}
		n, err := io.Copy(sums[key], in)
		if err != nil {
			return fmt.Errorf("%w: it ends in %s: %w", ErrCutShort, key, err)
		}
		sizes[key] += n
		f.pieces[key] = append(f.pieces[key], piece{offset, n})
	}
	if manifest == nil || sum == nil {
		return ErrCutShort
	}
	if own := sha256.Sum256(manifest); strings.TrimSpace(string(sum)) != hex.EncodeToString(own[:]) {
		return fmt.Errorf("%w: its manifest", ErrDamaged)
	}
	if err := json.Unmarshal(manifest, &f.Manifest); err != nil {
		return fmt.Errorf("%w: its manifest: %w", ErrDamaged, err)
	}
	return f.compare(sums, sizes)
}

// compare holds what was read against the manifest.
func (f *File) compare(sums map[string]hash.Hash, sizes map[string]int64) error {
	if f.Manifest.Format > format {
		return fmt.Errorf("%w: format %d, and this one knows %d", ErrNewer, f.Manifest.Format, format)
	}
	var damaged []string
	for _, a := range f.Manifest.Assets {
		for _, p := range a.Parts {
			key := a.Stream + "/" + p.Name
			if sums[key] == nil || sizes[key] != p.Bytes || hex.EncodeToString(sums[key].Sum(nil)) != p.SHA256 {
				damaged = append(damaged, key)
			}
		}
	}
	if damaged != nil {
		return fmt.Errorf("%w: %s", ErrDamaged, strings.Join(damaged, ", "))
	}
	return nil
}

// open returns the bytes of a part, none where there is no such part.
func (f *File) open(stream, name string) io.Reader {
	var all []io.Reader
	for _, p := range f.pieces[stream+"/"+name] {
		all = append(all, io.NewSectionReader(f.file, p.offset, p.size))
	}
	return io.MultiReader(all...)
}

// last returns the last sequence that a stream had when it was copied, parts that came later included.
func (m *Manifest) last(stream string) uint64 {
	last := uint64(0)
	for _, a := range m.Assets {
		for _, p := range a.Parts {
			if a.Stream == stream {
				last = max(last, p.Last)
			}
		}
	}
	return last
}

// has reports whether an asset has a part.
func (m *Manifest) has(stream, name string) bool {
	for _, a := range m.Assets {
		for _, p := range a.Parts {
			if a.Stream == stream && p.Name == name {
				return true
			}
		}
	}
	return false
}
