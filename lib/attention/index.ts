export { type AttentionOptions, type AttentionWindow, attention } from './attention.js';
