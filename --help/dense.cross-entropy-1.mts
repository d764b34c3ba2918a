import { tensor, crossEntropy } from 'longspan';
const loss = crossEntropy(tensor([[2, 0, 0]]), tensor([0], { dtype: 'i32' }));
loss.itemSync(); // 0.2395


export {};
