// The microphone: a recording as one blob, and its level while it lasts.

const TYPES = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus", "audio/mp4"];
const LEVEL_MS = 60;
// Plenty for speech.
const BIT_RATE = 48_000;

// Why there can be no recording here, in words; null when there can.
export function obstacle() {
  if (!window.isSecureContext) {
    return "Browsers give the microphone only to pages on this machine (localhost) or over HTTPS. Choose a file instead, or open the page that way.";
  }
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) return "This browser cannot record. Choose a file instead.";
  return null;
}

// Starts; gives { stop() } whose promise is the blob. `level(0..1, seconds)` is called some 16 times a second.
export async function startRecording(level) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false } });
  } catch (error) {
    throw new Error(explain(error));
  }
  const type = TYPES.find((candidate) => MediaRecorder.isTypeSupported(candidate));
  const recorder = new MediaRecorder(stream, { audioBitsPerSecond: BIT_RATE, ...(type ? { mimeType: type } : {}) });
  const pieces = [];
  recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
  const ended = new Promise((resolve) => recorder.addEventListener("stop", resolve));
  const stopWatching = watch(stream, level);
  recorder.start(1000);
  return {
    async stop() {
      if (recorder.state !== "inactive") recorder.stop();
      await ended;
      stopWatching();
      stream.getTracks().forEach((track) => track.stop());
      return new Blob(pieces, { type: recorder.mimeType.split(";")[0] || "audio/webm" });
    },
  };
}

function watch(stream, level) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const start = performance.now();
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    // From -60 dB to full scale.
    level(Math.max(0, 1 + Math.log10(power + 1e-12) / 6), (performance.now() - start) / 1000);
  }, LEVEL_MS);
  return () => {
    clearInterval(timer);
    context.close();
  };
}

function explain(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The browser was not allowed to use the microphone. Allow it in the site's settings (the icon left of the address), or choose a file.";
    case "NotFoundError":
      return "No microphone was found. Connect one, or choose a file.";
    case "NotReadableError":
      return "The microphone is in use by another program. Close that, or choose a file.";
    default:
      return `The microphone cannot be used (${error.name}). Choose a file instead.`;
  }
}
